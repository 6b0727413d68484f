"""Guided-diffusion (ADM) checkpoints as diffusers models: a configuration, renamed keys, reordered qkv rows.

Architecture: Dhariwal and Nichol, "Diffusion models beat GANs on image synthesis", 2021, appendix. The loops below
follow the numbers of the blocks in that network.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .adm_settings import SCHEDULES, GuidedError, GuidedSettings, read_settings
from .unet import set_attention_heads

BLOCK_PARTS = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
FIXED_PARTS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
LONGEST_LIST = 5  # names listed in an error


def convert(
    checkpoint: str | Path | Mapping[str, Tensor], config: str | Path | Mapping[str, Any]
) -> tuple[nn.Module, Any]:
    """A UNet2DModel (float32) and a DDPMScheduler from a checkpoint and its settings.

    Raises:
        GuidedError: settings that a UNet2DModel cannot express, or keys or shapes that do not fit them.
    """
    settings = read_settings(config)
    weights = read_checkpoint(checkpoint)
    try:
        unet = build_unet(settings)
    except (ValueError, RuntimeError, ZeroDivisionError, TypeError) as error:
        raise GuidedError(f"no network can be built from these settings ({' '.join(str(error).split())})") from error
    load_weights(unet, weights, settings)
    return unet, build_scheduler(settings)


def build_unet(settings: GuidedSettings) -> nn.Module:
    """An untrained UNet2DModel of ADM's architecture; under torch.device('meta') its weights have shapes only."""
    from diffusers import UNet2DModel

    down, up, resample = "DownBlock2D", "UpBlock2D", "conv"
    if settings.resblock_updown:
        down, up, resample = "ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D", "resnet"
    unet: Any = UNet2DModel(
        sample_size=settings.image_size,
        in_channels=settings.in_channels,
        out_channels=settings.out_channels,
        layers_per_block=settings.num_res_blocks,
        block_out_channels=settings.widths,
        down_block_types=tuple("AttnDownBlock2D" if attends else down for attends in settings.attends),
        up_block_types=tuple("AttnUpBlock2D" if attends else up for attends in reversed(settings.attends)),
        downsample_type=resample,
        upsample_type=resample,
        attention_head_dim=settings.head_channels,
        resnet_time_scale_shift="scale_shift" if settings.use_scale_shift_norm else "default",
        norm_num_groups=32,
        attn_norm_num_groups=32,
        norm_eps=1e-5,
        flip_sin_to_cos=True,
        freq_shift=0,
        num_class_embeds=settings.num_classes if settings.class_cond else None,
    )
    if settings.head_channels is None:
        set_attention_heads(unet, settings.num_heads)
    return unet


def build_scheduler(settings: GuidedSettings) -> Any:
    """ADM's noise schedule. The linear one keeps the total noise if the number of steps changes."""
    from diffusers import DDPMScheduler

    scale = 1000 / settings.diffusion_steps
    return DDPMScheduler(
        num_train_timesteps=settings.diffusion_steps,
        beta_schedule=SCHEDULES[settings.noise_schedule],
        beta_start=scale * 1e-4,
        beta_end=scale * 0.02,
        prediction_type="sample" if settings.predict_xstart else "epsilon",
        variance_type="learned_range" if settings.learn_sigma else "fixed_small",
    )


def read_checkpoint(checkpoint: str | Path | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by name in a .safetensors file, in a .pt file with tensors only, or in a mapping.

    Raises:
        GuidedError: the file does not exist, or is not a state dict of tensors.
    """
    if isinstance(checkpoint, Mapping):
        return dict(checkpoint)
    path = Path(checkpoint)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the two formats raise many kinds for unusable files
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise GuidedError(f"{path}: cannot be read as a checkpoint of tensors ({reason})") from error
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise GuidedError(f"{path}: expected a state dict, that is tensors by name")
    return dict(content)


def load_weights(unet: nn.Module, weights: Mapping[str, Tensor], settings: GuidedSettings) -> None:
    """Copy ADM weights into the UNet2DModel built from the same settings.

    Raises:
        GuidedError: missing, unexpected or misshapen entries; the first few are named.
    """
    remaining = dict(weights)
    expected = {name: value.shape for name, value in unet.state_dict().items()}
    converted: dict[str, Tensor] = {}
    missing: list[str] = []
    for source, target in name_pairs(settings):
        for kind in ("weight", "bias"):
            if f"{source}.{kind}" in remaining:
                value = remaining.pop(f"{source}.{kind}").float()
                converted.update(_entries(target, kind, value, settings))
            elif not (target.endswith("class_embedding") and kind == "bias"):
                missing.append(f"{source}.{kind}")
    _refuse("lacks", missing, settings)
    _refuse("has unexpected", list(remaining), settings)
    _refuse("has other shapes for", _misshapen(converted, expected), settings)
    unet.load_state_dict(converted, strict=True)


def name_pairs(settings: GuidedSettings) -> Iterator[tuple[str, str]]:
    """Every layer's name in ADM and in diffusers, without .weight and .bias; of to_q, to_k and to_v the prefix to_."""
    yield from FIXED_PARTS.items()
    if settings.class_cond:
        yield "label_emb", "class_embedding"
    yield from _input_pairs(settings)
    yield from _block_pairs("middle_block.0", "mid_block.resnets.0", changes_width=False)
    yield from _attention_pairs("middle_block.1", "mid_block.attentions.0")
    yield from _block_pairs("middle_block.2", "mid_block.resnets.1", changes_width=False)
    yield from _output_pairs(settings)


def _input_pairs(settings: GuidedSettings) -> Iterator[tuple[str, str]]:
    index, last, width = 1, len(settings.widths) - 1, settings.widths[0]
    for level, (next_width, attends) in enumerate(zip(settings.widths, settings.attends, strict=True)):
        block = f"down_blocks.{level}"
        for layer in range(settings.num_res_blocks):
            source = f"input_blocks.{index}"
            yield from _block_pairs(f"{source}.0", f"{block}.resnets.{layer}", width != next_width)
            if attends:
                yield from _attention_pairs(f"{source}.1", f"{block}.attentions.{layer}")
            index, width = index + 1, next_width
        if level < last:
            yield from _resample_pairs(f"input_blocks.{index}.0", f"{block}.downsamplers.0", "op", settings)
            index += 1


def _output_pairs(settings: GuidedSettings) -> Iterator[tuple[str, str]]:
    index, levels = 0, len(settings.widths)
    for position, level in enumerate(reversed(range(levels))):
        block = f"up_blocks.{position}"
        for layer in range(settings.num_res_blocks + 1):
            source = f"output_blocks.{index}"
            yield from _block_pairs(f"{source}.0", f"{block}.resnets.{layer}", changes_width=True)
            if settings.attends[level]:
                yield from _attention_pairs(f"{source}.1", f"{block}.attentions.{layer}")
            if level > 0 and layer == settings.num_res_blocks:
                place = 2 if settings.attends[level] else 1
                yield from _resample_pairs(f"{source}.{place}", f"{block}.upsamplers.0", "conv", settings)
            index += 1


def _block_pairs(source: str, target: str, changes_width: bool) -> Iterator[tuple[str, str]]:
    """The layers of a residual block. Output blocks always change the width: their input has a concatenated skip."""
    for adm, diffusers in BLOCK_PARTS.items():
        if diffusers != "conv_shortcut" or changes_width:
            yield f"{source}.{adm}", f"{target}.{diffusers}"


def _attention_pairs(source: str, target: str) -> Iterator[tuple[str, str]]:
    yield f"{source}.norm", f"{target}.group_norm"
    yield f"{source}.qkv", f"{target}.to_"
    yield f"{source}.proj_out", f"{target}.to_out.0"


def _resample_pairs(source: str, target: str, conv: str, settings: GuidedSettings) -> Iterator[tuple[str, str]]:
    if settings.resblock_updown:
        yield from _block_pairs(source, target, changes_width=False)
    else:
        yield f"{source}.{conv}", f"{target}.conv"


def _entries(target: str, kind: str, value: Tensor, settings: GuidedSettings) -> dict[str, Tensor]:
    if target.endswith("to_out.0"):
        return {f"{target}.{kind}": value.squeeze(-1)}  # a 1x1 convolution over tokens is a linear layer
    if not target.endswith("to_"):
        return {f"{target}.{kind}": value}
    parts = _split_qkv(value.squeeze(-1) if kind == "weight" else value, settings)
    return {f"{target}{name}.{kind}": part for name, part in zip("qkv", parts, strict=True)}


def _split_qkv(rows: Tensor, settings: GuidedSettings) -> tuple[Tensor, ...]:
    """Query, key and value rows. The legacy order has q, k, v of each head together; the new order has all q first.

    Both have the same names and shapes, so that only the setting tells which one it is.
    """
    width = rows.shape[0] // 3
    heads = settings.heads(width)
    if settings.use_new_attention_order or rows.shape[0] % (3 * heads):
        return rows.chunk(3)
    per_head = rows.reshape(heads, 3, width // heads, *rows.shape[1:])
    return tuple(per_head.transpose(0, 1).reshape(3, width, *rows.shape[1:]))


def _misshapen(converted: Mapping[str, Tensor], expected: Mapping[str, torch.Size]) -> list[str]:
    return [
        f"{name} ({tuple(value.shape)} instead of {tuple(expected[name])})"
        for name, value in converted.items()
        if value.shape != expected[name]
    ]


def _refuse(complaint: str, names: list[str], settings: GuidedSettings) -> None:
    if names:
        shown = ", ".join(names[:LONGEST_LIST]) + (
            f" and {len(names) - LONGEST_LIST} more" if len(names) > LONGEST_LIST else ""
        )
        raise GuidedError(
            f"the checkpoint {complaint} {shown}; the settings describe another network: check num_channels, "
            f"channel_mult {settings.channel_mult}, num_res_blocks {settings.num_res_blocks}, attention at "
            f"factors {settings.attention_downsample_factors}, resblock_updown, use_scale_shift_norm, learn_sigma, "
            "class_cond"
        )
