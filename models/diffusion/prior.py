"""A frozen diffusion U-Net as a source of features: the noise it predicts and its h-space."""

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from .precision import as_decoder_reads
from .schedule import NoiseSchedule
from .unet import save_attention_heads

NULL_CLASS_FILE = "null_class.json"
MIDDLE = "middle"  # the layer whose output is the h-space
NOISE = "noise"  # the last layer


class PriorError(ValueError):
    """A diffusion model that cannot serve as a prior, or an input it cannot take."""


class Features(NamedTuple):
    """What the prior says about noisy images."""

    noise: Tensor  # (N,3,H,W) predicted noise
    hspace: Tensor  # (N,C,h,w) output of the middle block ("h-space", Kwon et al. 2023)


class DiffusionPrior(nn.Module):
    """A diffusers UNet2DModel and its schedule, frozen for good: gradients pass through it, never into it.

    `.train()` and `.requires_grad_()` leave it in eval and frozen, and a parent that thaws its parameters by
    hand is undone at the next call.

    Args:
        unet: a UNet2DModel for 3-channel images with a middle block.
        scheduler: a diffusers scheduler with `alphas_cumprod`; its prediction type is honoured.
        null_class: index of the "no class" class; needed where the U-Net is class-conditional.

    Raises:
        PriorError: the U-Net is of a kind that has no h-space or needs inputs that are not given.
    """

    def __init__(self, unet: nn.Module, scheduler: Any, *, null_class: int | None = None) -> None:
        super().__init__()
        self._check_unet(unet, null_class)
        self.unet = unet
        self.scheduler = scheduler
        self.schedule = NoiseSchedule.from_scheduler(scheduler)
        self.null_class = null_class
        self._freeze()

    @classmethod
    def load(cls, source: str | Path, *, null_class: int | None = None) -> "DiffusionPrior":
        """Load a diffusers folder or hub id: `unet` and `scheduler` sub-folders, or both files side by side.

        Args:
            source: a `Path` is a folder of this machine; a string may also be a hub id.
            null_class: of a class-conditional U-Net; None: the stored one.

        Raises:
            PriorError: there is no such folder or model, or it is no U-Net for pixels.
        """
        from .storage import load_prior

        return load_prior(source, null_class=null_class)

    @classmethod
    def from_guided_diffusion(
        cls,
        checkpoint: str | Path | Mapping[str, Tensor],
        config: str | Path | Mapping[str, Any],
        *,
        null_class: int | None = None,
    ) -> "DiffusionPrior":
        """Convert a guided-diffusion (ADM) checkpoint, .pt or .safetensors, with its settings (dict or JSON file).

        Raises:
            models.diffusion.guided.GuidedError: settings or keys that do not fit a stock UNet2DModel.
        """
        from .adm import convert

        unet, scheduler = convert(checkpoint, config)
        return cls(unet, scheduler, null_class=null_class)

    def save(self, folder: str | Path) -> None:
        """Write the layout that `load` reads: unet/, scheduler/ and, where they are set, null class and heads."""
        folder = Path(folder)
        self.unet.save_pretrained(folder / "unet")  # type: ignore[operator]
        self.scheduler.save_pretrained(folder / "scheduler")
        save_attention_heads(self.unet, folder)
        if self.null_class is not None:
            (folder / NULL_CLASS_FILE).write_text(json.dumps({"null_class": self.null_class}) + "\n")

    def forward(self, noisy: Tensor, timesteps: Tensor) -> Features:
        """Predicted noise and h-space of noisy images.

        Args:
            noisy: (N,3,H,W) in diffusion range, that is [-1,1] images plus noise; H and W multiples of
                `size_multiple`.
            timesteps: (N,) integers within the schedule.

        Raises:
            PriorError, ScheduleError: shapes or timesteps that do not fit.
        """
        maps = self.maps(noisy, timesteps, (NOISE, MIDDLE))
        return Features(maps[NOISE], maps[MIDDLE])

    def hspace(self, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """The h-space (N,C,h,w) alone: the decoder, more than half of the cost, is never run."""
        return self.maps(noisy, timesteps, (MIDDLE,))[MIDDLE]

    def maps(self, noisy: Tensor, timesteps: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        """Feature maps (N,C,h,w) at some of `layers`, by name. Of the decoder only what they need is run.

        Args:
            noisy: as in `forward`.
            timesteps: (N,) integers within the schedule.
            layers: names among `layers`.

        Raises:
            PriorError, ScheduleError: a layer that this U-Net does not have; shapes or timesteps that do not fit.
        """
        self.check_layers(layers)
        noisy = self._prepare(noisy, timesteps)
        maps, skips, embedding = self._encoder(noisy, timesteps)
        blocks = max((self.layers.index(name) - self.layers.index(MIDDLE) for name in layers), default=0)
        if blocks > 0:
            maps |= self._decoder(maps[MIDDLE], skips, embedding, blocks)
        if NOISE in layers:  # the rest of the channels is learned variance
            maps[NOISE] = self.schedule.to_noise(maps[NOISE][:, : noisy.shape[1]], noisy, timesteps)
        return {name: maps[name] for name in layers}

    @property
    def layers(self) -> list[str]:
        """Where features can be taken, in the order of evaluation: `down0` ..., `middle`, `up0` ..., `noise`.

        `down0` is the output of the finest block of the encoder, `up0` that of the coarsest of the decoder.
        """
        unet: Any = self.unet
        down, up = (range(len(blocks)) for blocks in (unet.down_blocks, unet.up_blocks))
        return [*(f"down{level}" for level in down), MIDDLE, *(f"up{level}" for level in up), NOISE]

    def check_layers(self, names: Collection[str]) -> None:
        """Refuse a layer that this U-Net does not have.

        Raises:
            PriorError: the text lists those it has.
        """
        for name in names:
            if name not in self.layers:
                raise PriorError(f"the prior has no layer {name!r}; there are {', '.join(self.layers)}")

    def encode(self, image: Tensor) -> Tensor:
        """Images (N,3,H,W) in [-1,1] in the space that the diffusion acts in: here the pixels themselves."""
        return image

    def add_noise(self, image: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Forward diffusion of images (N,3,H,W) in [-1,1]; noise of the same shape, timesteps (N,)."""
        self.schedule.check(timesteps, len(image))
        return self.schedule.add_noise(image, noise, timesteps)

    def checkpoint(self) -> None:
        """Keep no activations inside the blocks; the backward pass computes them again."""
        self.unet.enable_gradient_checkpointing()  # type: ignore[operator]

    def compile_passes(self) -> None:
        """Compile both halves with torch.compile; the first calls then take a minute or more."""
        self._encoder = torch.compile(self._encoder)  # type: ignore[method-assign]
        self._decoder = torch.compile(self._decoder)  # type: ignore[method-assign]

    @property
    def size_multiple(self) -> int:
        """Image sides, in pixels, must be multiples of this."""
        return self._unet_multiple

    @property
    def _unet_multiple(self) -> int:
        """The U-Net halves its input once for each level but the last."""
        return 2 ** (len(self.unet.config.block_out_channels) - 1)  # type: ignore[union-attr, arg-type]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights; inputs are cast to it."""
        return next(self.parameters()).dtype

    def train(self, mode: bool = True) -> Self:
        """Stay in eval."""
        return super().train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Stay frozen."""
        return super().requires_grad_(False)

    def _freeze(self) -> None:
        """Undo what a parent module, or a hand, may have thawed."""
        if any(parameter.requires_grad for parameter in self.parameters()):
            self.requires_grad_(False)
        if any(module.training for module in self.modules()):
            self.train(False)

    def _prepare(self, noisy: Tensor, timesteps: Tensor) -> Tensor:
        channels, multiple = self.unet.config.in_channels, self._unet_multiple  # type: ignore[union-attr]
        if noisy.ndim != 4 or noisy.shape[1] != channels:
            raise PriorError(f"noisy: expected (N,{channels},H,W), got {tuple(noisy.shape)}")
        if noisy.shape[2] % multiple or noisy.shape[3] % multiple or 0 in noisy.shape[2:]:
            raise PriorError(
                f"noisy: the prior needs sides that are multiples of {multiple}, got {tuple(noisy.shape[2:])}; "
                "crop to such a size or let the loss resize its view"
            )
        self.schedule.check(timesteps, len(noisy))
        self._freeze()
        return noisy.to(self.dtype)

    def _encoder(self, noisy: Tensor, timesteps: Tensor) -> tuple[dict[str, Tensor], list[Tensor], Tensor]:
        """Maps up to the middle, the skip tensors, the time embedding: the first half of UNet2DModel.forward."""
        unet: Any = self.unet
        embedding = unet.time_embedding(unet.time_proj(timesteps.to(noisy.device)).to(noisy.dtype))
        if self.null_class is not None:
            classes = torch.full((len(noisy),), self.null_class, device=noisy.device)
            embedding = embedding + unet.class_embedding(classes)
        with _full_precision(noisy):
            sample = unet.conv_in(2 * noisy - 1 if unet.config.center_input_sample else noisy)
        skips, maps = [sample], {}
        for level, block in enumerate(unet.down_blocks):
            sample, outputs = block(hidden_states=sample, temb=embedding)
            skips.extend(outputs)
            maps[f"down{level}"] = sample
        return {**maps, MIDDLE: unet.mid_block(sample, embedding)}, skips, embedding

    def _decoder(self, hspace: Tensor, skips: list[Tensor], embedding: Tensor, blocks: int) -> dict[str, Tensor]:
        """Maps after the middle, the raw prediction if `blocks` goes that far: the second half."""
        unet: Any = self.unet
        sample, embedding, *skips = (as_decoder_reads(tensor) for tensor in (hspace, embedding, *skips))
        maps: dict[str, Tensor] = {}
        for level, block in enumerate(unet.up_blocks[:blocks]):
            count = len(block.resnets)
            sample = block(sample, tuple(skips[-count:]), embedding)
            del skips[-count:]
            maps[f"up{level}"] = sample
        if blocks > len(unet.up_blocks):
            with _full_precision(sample):
                maps[NOISE] = unet.conv_out(unet.conv_act(unet.conv_norm_out(sample.to(self.dtype))))
        return maps

    @staticmethod
    def _check_unet(unet: nn.Module, null_class: int | None) -> None:
        config: Any = getattr(unet, "config", None)
        if type(unet).__name__ != "UNet2DModel" or config is None:
            raise PriorError(f"expected a diffusers UNet2DModel, got {type(unet).__name__}")
        refusals: list[tuple[Callable[[], bool], str]] = [
            (lambda: unet.mid_block is None, "it has no middle block, hence no h-space"),
            (lambda: config.time_embedding_type == "fourier", "its time is continuous (fourier embedding)"),
            (lambda: any("Skip" in block for block in config.down_block_types), "it has Skip blocks"),
        ]
        for applies, reason in refusals:
            if applies():
                raise PriorError(f"this U-Net cannot be a prior: {reason}")
        conditional = unet.class_embedding is not None
        if conditional and (config.class_embed_type is not None or not config.num_class_embeds):
            raise PriorError(f"this U-Net cannot be a prior: class embedding of type {config.class_embed_type!r}")
        if conditional and null_class is None:
            raise PriorError(
                f"this U-Net is conditional on {config.num_class_embeds} classes: pass null_class=<index of its "
                "'no class' class>; without one it cannot judge images of unknown content"
            )
        if null_class is not None and not (conditional and 0 <= null_class < config.num_class_embeds):
            raise PriorError(f"null_class={null_class}: expected an index below {config.num_class_embeds or 0}")


def _full_precision(tensor: Tensor) -> torch.autocast:
    """The two ends of the U-Net run without autocast: they cost little, and rounding there hides small differences."""
    return torch.autocast(tensor.device.type, enabled=False)
