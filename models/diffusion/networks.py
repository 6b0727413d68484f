"""The U-Nets inside a prior: feature maps of noisy images at every layer, differentiable in the images."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .precision import as_decoder_reads
from .unet import save_attention_heads

NULL_CLASS_FILE = "null_class.json"
MIDDLE = "middle"  # the layer whose output is the h-space
NOISE = "noise"  # the last layer


class PriorError(ValueError):
    """A diffusion model that cannot serve as a prior, or an input that it cannot take."""


class PriorNetwork(nn.Module):
    """A diffusion U-Net and the space that it works in. `DiffusionPrior` adds the noise schedule and keeps it frozen.

    Attributes:
        unet: a diffusers U-Net with a middle block.
    """

    unet: Any

    def forward(self, noisy: Tensor, timesteps: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        """Feature maps (N,c,h,w) by layer: at least those in `layers`; no layer after the last of them is run.

        Args:
            noisy: (N,C,H,W) in the space of the U-Net and of the type of its weights.
            timesteps: (N,) integers.
            layers: names among `self.layers`. Under `noise` comes the raw prediction: not converted to noise, with
                the channels of a learned variance.
        """
        raise NotImplementedError

    def encode(self, image: Tensor) -> Tensor:
        """Images (N,3,H,W) in [-1,1] in the space that the U-Net works in; differentiable."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Write unet/ and what else the network needs into a folder."""
        self.unet.save_pretrained(folder / "unet")
        save_attention_heads(self.unet, folder)

    def compile_passes(self) -> None:
        """Compile the forward pass with torch.compile.

        Raises:
            PriorError: this network cannot be compiled.
        """
        raise NotImplementedError

    @property
    def layers(self) -> list[str]:
        """Where features can be taken, in the order of evaluation: `down0` ..., `middle`, `up0` ..., `noise`.

        `down0` is the output of the finest block of the encoder, `up0` that of the coarsest of the decoder.
        """
        down, up = range(len(self.unet.down_blocks)), range(len(self.unet.up_blocks))
        return [*(f"down{level}" for level in down), MIDDLE, *(f"up{level}" for level in up), NOISE]

    @property
    def channels(self) -> int:
        """Channels of the U-Net's input."""
        return int(self.unet.config.in_channels)

    @property
    def input_multiple(self) -> int:
        """Sides of the U-Net's input must be multiples of this: it halves them once for each level but the last."""
        return int(2 ** (len(self.unet.config.block_out_channels) - 1))

    @property
    def image_multiple(self) -> int:
        """Image sides, in pixels, must be multiples of this."""
        return self.input_multiple

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights; inputs are cast to it."""
        return next(self.parameters()).dtype


class PixelNetwork(PriorNetwork):
    """A diffusers UNet2DModel that works on pixels.

    Args:
        unet: a UNet2DModel with a middle block.
        null_class: index of the "no class" class; needed if the U-Net is class-conditional.

    Raises:
        PriorError: the U-Net has no h-space, or needs an input that is absent.
    """

    def __init__(self, unet: nn.Module, null_class: int | None = None) -> None:
        super().__init__()
        _check_pixel_unet(unet, null_class)
        self.unet = unet
        self.null_class = null_class

    def forward(self, noisy: Tensor, timesteps: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        """See `PriorNetwork.forward`. The two passes are UNet2DModel.forward, cut in the middle."""
        maps, skips, embedding = self._encoder(noisy, timesteps)  # maps: down0 ... middle
        blocks = max((self.layers.index(name) - self.layers.index(MIDDLE) for name in layers), default=0)
        if blocks > 0:
            maps |= self._decoder(maps[MIDDLE], skips, embedding, blocks)  # up0 ... noise
        return maps

    def _encoder(self, noisy: Tensor, timesteps: Tensor) -> tuple[dict[str, Tensor], list[Tensor], Tensor]:
        """Feature maps up to the middle, the skip tensors (finest first) and the time embedding."""
        unet = self.unet
        embedding = unet.time_proj(timesteps.to(noisy.device))  # (N,T) sines and cosines
        embedding = unet.time_embedding(embedding.to(noisy.dtype))  # (N,E)
        if self.null_class is not None:
            classes = torch.full((len(noisy),), self.null_class, device=noisy.device)  # (N,)
            embedding = embedding + unet.class_embedding(classes)  # (N,E)
        with _full_precision(noisy):
            sample = unet.conv_in(2 * noisy - 1 if unet.config.center_input_sample else noisy)  # (N,c0,H,W)
        maps, skips = {}, [sample]
        for level, block in enumerate(unet.down_blocks):
            sample, outputs = block(hidden_states=sample, temb=embedding)  # (N,c,h,w), half the size of the level above
            skips.extend(outputs)
            maps[f"down{level}"] = sample
        maps[MIDDLE] = unet.mid_block(sample, embedding)  # (N,C,h,w)
        return maps, skips, embedding

    def _decoder(self, hspace: Tensor, skips: list[Tensor], embedding: Tensor, blocks: int) -> dict[str, Tensor]:
        """Feature maps of the first `blocks` steps after the middle; the raw prediction is the last step."""
        unet = self.unet
        sample, embedding, *skips = (as_decoder_reads(tensor) for tensor in (hspace, embedding, *skips))
        maps: dict[str, Tensor] = {}
        for level, block in enumerate(unet.up_blocks[:blocks]):
            count = len(block.resnets)
            sample = block(sample, tuple(skips[-count:]), embedding)  # (N,c,h,w), twice the size of the level below
            del skips[-count:]
            maps[f"up{level}"] = sample
        if blocks > len(unet.up_blocks):
            with _full_precision(sample):
                sample = unet.conv_act(unet.conv_norm_out(sample.to(self.dtype)))  # (N,c0,H,W)
                maps[NOISE] = unet.conv_out(sample)  # (N,3,H,W); (N,6,H,W) with learned variance
        return maps

    def encode(self, image: Tensor) -> Tensor:
        """The pixels themselves."""
        return image

    def save(self, folder: Path) -> None:
        """Write unet/ and, if there is one, the null class."""
        super().save(folder)
        if self.null_class is not None:
            (folder / NULL_CLASS_FILE).write_text(json.dumps({"null_class": self.null_class}) + "\n")

    def compile_passes(self) -> None:
        """Compile both halves; the first calls then take a minute or more."""
        self._encoder = torch.compile(self._encoder)  # type: ignore[method-assign]
        self._decoder = torch.compile(self._decoder)  # type: ignore[method-assign]


def _full_precision(tensor: Tensor) -> torch.autocast:
    """The two ends of the U-Net run without autocast: they cost little, and rounding there hides small differences."""
    return torch.autocast(tensor.device.type, enabled=False)


def _check_pixel_unet(unet: nn.Module, null_class: int | None) -> None:
    config: Any = getattr(unet, "config", None)
    if type(unet).__name__ != "UNet2DModel" or config is None:
        raise PriorError(f"expected a diffusers UNet2DModel, got {type(unet).__name__}")
    if unet.mid_block is None:
        raise PriorError("this U-Net cannot be a prior: it has no middle block, hence no h-space")
    if config.time_embedding_type == "fourier":
        raise PriorError("this U-Net cannot be a prior: its time is continuous (fourier embedding)")
    if any("Skip" in block for block in config.down_block_types):
        raise PriorError("this U-Net cannot be a prior: it has Skip blocks")
    _check_classes(unet, config, null_class)


def _check_classes(unet: nn.Module, config: Any, null_class: int | None) -> None:
    conditional = unet.class_embedding is not None
    if conditional and (config.class_embed_type is not None or not config.num_class_embeds):
        raise PriorError(f"this U-Net cannot be a prior: class embedding of type {config.class_embed_type!r}")
    if conditional and null_class is None:
        raise PriorError(
            f"this U-Net is conditional on {config.num_class_embeds} classes: pass null_class=<index of its 'no "
            "class' class>; without it the prior cannot take images of unknown content"
        )
    if null_class is not None and not (conditional and 0 <= null_class < config.num_class_embeds):
        raise PriorError(f"null_class={null_class}: expected an index below {config.num_class_embeds or 0}")


def stored_null_class(folder: Path) -> int | None:
    """The null class that `PixelNetwork.save` wrote; None if it wrote none."""
    path = folder / NULL_CLASS_FILE
    if not path.exists():
        return None
    content: Mapping[str, Any] = json.loads(path.read_text())
    return int(content["null_class"])
