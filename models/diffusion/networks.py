"""The U-Nets of priors, on pixels or on latents: feature maps of noisy images, differentiable in the images."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .precision import as_decoder_reads
from .unet import save_attention_heads

NULL_CLASS_FILE = "null_class.json"
EMPTY_PROMPT_FILE = "empty_prompt.safetensors"
MIDDLE = "middle"  # the layer whose output is the h-space
NOISE = "noise"  # the last layer


class PriorError(ValueError):
    """A diffusion model that cannot serve as a prior, or an input that it cannot take."""


class PriorNetwork(nn.Module, ABC):
    """A diffusion U-Net and the encoder into its space. `DiffusionPrior` adds the noise schedule and keeps it frozen.

    Attributes:
        unet: a diffusers U-Net with a middle block.
    """

    unet: Any

    @abstractmethod
    def forward(self, noisy: Tensor, timesteps: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        """Feature maps (N,c,h,w) by layer: at least those in `layers`; later layers do not run.

        Args:
            noisy: (N,C,H,W) in the space of the U-Net and of the type of its weights.
            timesteps: (N,) integers.
            layers: names among `self.layers`. The map at `noise` is the raw prediction: not converted to noise, with
                the channels of a learned variance.
        """

    @abstractmethod
    def encode(self, image: Tensor) -> Tensor:
        """The input of the U-Net, before noise, for images (N,3,H,W) in [-1,1]; differentiable."""

    def save(self, folder: Path) -> None:
        """Write unet/ and the network's further files into a folder."""
        self.unet.save_pretrained(folder / "unet")
        save_attention_heads(self.unet, folder)

    @abstractmethod
    def compile_passes(self) -> None:
        """Compile the forward pass with torch.compile; PriorError if this network cannot be compiled."""

    @property
    def layers(self) -> list[str]:
        """The layers with feature maps, in the order of evaluation: `down0` ..., `middle`, `up0` ..., `noise`.

        `down0` is the output of the encoder's finest block, `up0` that of the decoder's coarsest block.
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
        null_class: index of the class that means "no class"; needed if the U-Net is class-conditional.

    Raises:
        PriorError: the U-Net has no h-space, or needs further inputs.
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
        """Feature maps up to the middle, the skip tensors (finest first) and the time embedding (N,E)."""
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
        """Write unet/ and the null class, if there is one."""
        super().save(folder)
        if self.null_class is not None:
            (folder / NULL_CLASS_FILE).write_text(json.dumps({"null_class": self.null_class}) + "\n")

    def compile_passes(self) -> None:
        """Compile both halves; the first calls then take a minute or more."""
        self._encoder = torch.compile(self._encoder)  # type: ignore[method-assign]
        self._decoder = torch.compile(self._decoder)  # type: ignore[method-assign]


class _LastLayerReached(Exception):  # noqa: N818 - a signal, not an error
    """Ends a forward pass after the last requested layer."""


class LatentNetwork(PriorNetwork):
    """A UNet2DConditionModel behind a VAE; gradients pass through the VAE's encoder as well.

    An image (N,3,H,W) becomes the mean of its latent distribution (N,C,h,w), scaled as the model was trained.

    Args:
        unet: a diffusers UNet2DConditionModel whose only condition is a prompt.
        vae: a diffusers AutoencoderKL.
        empty_prompt: (1,tokens,width) embedding of the empty prompt.

    Raises:
        PriorError: the models do not fit each other or need further conditions.
    """

    empty_prompt: Tensor

    def __init__(self, unet: nn.Module, vae: nn.Module, empty_prompt: Tensor) -> None:
        super().__init__()
        _check_latent_unet(unet, empty_prompt)
        self.unet = unet
        self.vae: Any = vae
        self.register_buffer("empty_prompt", empty_prompt.detach().clone())

    def forward(self, noisy: Tensor, timesteps: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        """See `PriorNetwork.forward`. Hooks on the blocks read the maps during the U-Net's forward pass."""
        maps: dict[str, Tensor] = {}
        last = max(layers, key=self.layers.index)

        def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
            def hook(module: nn.Module, inputs: Any, output: Any) -> None:
                maps[name] = output[0] if isinstance(output, tuple) else output  # (N,c,h,w)
                if name == last:
                    raise _LastLayerReached

            return hook

        prompt = self.empty_prompt.to(noisy.dtype).expand(len(noisy), -1, -1)  # (N,tokens,width)
        with ExitStack() as hooks:
            for name in layers:
                if name != NOISE:
                    hooks.enter_context(self._block(name).register_forward_hook(keep(name)))
            with suppress(_LastLayerReached):
                output = self.unet(noisy, timesteps.to(noisy.device), encoder_hidden_states=prompt)
                maps[NOISE] = output.sample  # (N,C,h,w)
        return maps

    def encode(self, image: Tensor) -> Tensor:
        """Latents (N,C,h,w) of images (N,3,H,W) in [-1,1]; differentiable."""
        latents = self.vae.encode(image.to(self.dtype)).latent_dist.mean
        return (latents - (self.vae.config.get("shift_factor") or 0.0)) * self.vae.config.scaling_factor

    def save(self, folder: Path) -> None:
        """Write unet/, vae/ and the empty prompt."""
        from safetensors.torch import save_file

        super().save(folder)
        self.vae.save_pretrained(folder / "vae")
        save_file({"empty": self.empty_prompt.contiguous()}, folder / EMPTY_PROMPT_FILE)

    def compile_passes(self) -> None:
        """Raise PriorError: the hooks that read the h-space do not survive compilation."""
        raise PriorError("a latent prior cannot be compiled; set compile to false")

    @property
    def image_multiple(self) -> int:
        """Image sides, in pixels, must be multiples of this: the VAE halves them first."""
        return int(self.input_multiple * 2 ** (len(self.vae.config.block_out_channels) - 1))

    def _block(self, layer: str) -> nn.Module:
        if layer == MIDDLE:
            block: nn.Module = self.unet.mid_block
        elif layer.startswith("down"):
            block = self.unet.down_blocks[int(layer.removeprefix("down"))]
        else:
            block = self.unet.up_blocks[int(layer.removeprefix("up"))]
        return block


def _full_precision(tensor: Tensor) -> torch.autocast:
    """A context without autocast, for the first and last layers: rounding there hides small differences."""
    return torch.autocast(tensor.device.type, enabled=False)


def _checked_config(unet: nn.Module, kind: str) -> Any:
    """The configuration of a U-Net of a diffusers class, with a middle block."""
    config: Any = getattr(unet, "config", None)
    if type(unet).__name__ != kind or config is None:
        raise PriorError(f"expected a diffusers {kind}, got {type(unet).__name__}")
    if unet.mid_block is None:
        raise PriorError("this U-Net cannot be a prior: it has no middle block, hence no h-space")
    return config


def _check_pixel_unet(unet: nn.Module, null_class: int | None) -> None:
    config = _checked_config(unet, "UNet2DModel")
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


def _check_latent_unet(unet: nn.Module, empty_prompt: Tensor) -> None:
    config = _checked_config(unet, "UNet2DConditionModel")
    width = config.get("cross_attention_dim")
    if empty_prompt.ndim != 3 or empty_prompt.shape[0] != 1 or empty_prompt.shape[2] != width:
        raise PriorError(f"empty_prompt: expected (1,tokens,{width}), got {tuple(empty_prompt.shape)}")
    if config.addition_embed_type or config.class_embed_type or config.num_class_embeds:
        raise PriorError("this U-Net needs conditions beyond a prompt (such as SDXL's sizes)")


def stored_null_class(folder: Path) -> int | None:
    """The null class that `PixelNetwork.save` wrote; None if it wrote none."""
    path = folder / NULL_CLASS_FILE
    if not path.exists():
        return None
    return int(json.loads(path.read_text())["null_class"])
