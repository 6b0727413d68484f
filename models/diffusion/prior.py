"""Diffusion priors: frozen diffusion models that give features of noisy images, and how they are loaded."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from .adm import convert
from .networks import (
    EMPTY_PROMPT_FILE,
    MIDDLE,
    NOISE,
    LatentNetwork,
    PixelNetwork,
    PriorError,
    PriorNetwork,
    stored_null_class,
)
from .schedule import NoiseSchedule, ScheduleError
from .unet import load_attention_heads

__all__ = ["MIDDLE", "NOISE", "DiffusionPrior", "Features", "PriorError"]

LONGEST_REASON = 300  # characters of another library's message
LONGEST_LIST = 5  # names listed in an error
# The keys that define a noise schedule. Other samplers have further keys, which say how to sample.
SCHEDULE_KEYS = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "rescale_betas_zero_snr",
)


class Features(NamedTuple):
    """The output of a prior for noisy images."""

    noise: Tensor  # (N,3,H,W) predicted noise
    hspace: Tensor  # (N,C,h,w) output of the middle block ("h-space", Kwon et al. 2023)


class DiffusionPrior(nn.Module):
    """A diffusion U-Net and its schedule, frozen: gradients pass through it into the images, never into its weights.

    `.train()` and `.requires_grad_()` have no effect: it stays in eval mode and frozen. If a parent module changes
    that, the next call restores it.

    Args:
        unet: a diffusers UNet2DModel for RGB images with a middle block, or a `PriorNetwork`.
        scheduler: a diffusers scheduler with `alphas_cumprod`; its prediction type is respected.
        null_class: index of the class that means "no class"; needed if a UNet2DModel is class-conditional.

    Raises:
        PriorError: the U-Net has no h-space, or needs further inputs.
        ScheduleError: the scheduler has no `alphas_cumprod`.
    """

    def __init__(self, unet: nn.Module, scheduler: Any, *, null_class: int | None = None) -> None:
        super().__init__()
        self.network = unet if isinstance(unet, PriorNetwork) else PixelNetwork(unet, null_class)
        self.scheduler = scheduler
        self.schedule = NoiseSchedule.from_scheduler(scheduler)
        self._freeze()

    @classmethod
    def load(cls, source: str | Path, *, null_class: int | None = None) -> Self:
        """The prior in a diffusers folder or hub id: `unet` and `scheduler` sub-folders, or both files side by side.

        A latent diffusion model (sub-folder `vae`) also needs the embedding of its empty prompt.

        Args:
            source: a `Path` is a local folder; a string may also be a hub id.
            null_class: of a class-conditional U-Net; None: the one that `save` wrote.

        Raises:
            PriorError: there is no such folder or model, or it cannot be a prior.
            ScheduleError: the noise schedule cannot be used.
        """
        try:
            return cls(_load_network(source, null_class), _load_scheduler(source))
        except (PriorError, ScheduleError):
            raise
        except Exception as error:  # diffusers raises many kinds for configurations and weights of any content
            reason = " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__
            raise PriorError(f"{source}: not a readable prior ({reason})") from error

    @classmethod
    def from_guided_diffusion(
        cls,
        checkpoint: str | Path | Mapping[str, Tensor],
        config: str | Path | Mapping[str, Any],
        *,
        null_class: int | None = None,
    ) -> Self:
        """A prior from a guided-diffusion (ADM) checkpoint, .pt or .safetensors, with its settings (dict or JSON file).

        Raises:
            models.diffusion.adm_settings.GuidedError: settings or keys that do not fit a stock UNet2DModel.
        """
        unet, scheduler = convert(checkpoint, config)
        return cls(unet, scheduler, null_class=null_class)

    def save(self, folder: str | Path) -> None:
        """Write the layout that `load` reads."""
        self.network.save(Path(folder))
        self.scheduler.save_pretrained(Path(folder) / "scheduler")

    def forward(self, noisy: Tensor, timesteps: Tensor) -> Features:
        """Predicted noise and h-space of noisy images.

        Args:
            noisy: (N,3,H,W), what `add_noise` returns for [-1,1] images; H and W multiples of `size_multiple`.
            timesteps: (N,) integers within the schedule.

        Raises:
            PriorError, ScheduleError: shapes or timesteps that do not fit.
        """
        maps = self.maps(noisy, timesteps, (NOISE, MIDDLE))
        return Features(noise=maps[NOISE], hspace=maps[MIDDLE])

    def hspace(self, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """The h-space (N,C,h,w) without the predicted noise: the decoder, more than half of the time, does not run."""
        return self.maps(noisy, timesteps, (MIDDLE,))[MIDDLE]

    def maps(self, noisy: Tensor, timesteps: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        """Feature maps (N,C,h,w) by layer. Layers after the last one in `layers` do not run.

        Args:
            noisy: as in `forward`; latents (N,C,h,w) for a latent prior.
            timesteps: (N,) integers within the schedule.
            layers: names among `self.layers`; the map at `noise` is the predicted noise, whatever the prediction type.

        Raises:
            PriorError, ScheduleError: a layer that this U-Net does not have; shapes or timesteps that do not fit.
        """
        self.check_layers(layers)
        self._check_input(noisy, timesteps)
        self._freeze()
        noisy = noisy.to(self.dtype)  # (N,C,H,W)
        maps = self.network(noisy, timesteps, layers)  # name -> (N,c,h,w)
        if NOISE in layers:
            prediction = maps[NOISE][:, : noisy.shape[1]]  # (N,C,H,W); further channels are learned variance
            maps[NOISE] = self.schedule.to_noise(prediction, noisy, timesteps)
        return {name: maps[name] for name in layers}

    def encode(self, image: Tensor) -> Tensor:
        """Images (N,3,H,W) in [-1,1] in the space that the diffusion acts in: pixels, or a VAE's latents (N,C,h,w)."""
        self._freeze()
        return self.network.encode(image)

    def add_noise(self, image: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The noisy images x_t of images (N,3,H,W) in [-1,1], or of latents; noise of this shape, timesteps (N,)."""
        self.schedule.check(timesteps, len(image))
        return self.schedule.add_noise(image, noise, timesteps)

    @property
    def layers(self) -> list[str]:
        """Where features can be taken, in the order of evaluation: `down0` ..., `middle`, `up0` ..., `noise`."""
        return self.network.layers

    def check_layers(self, names: Collection[str]) -> None:
        """Check that this U-Net has some layers.

        Raises:
            PriorError: it lacks one; the text lists the layers that it has.
        """
        for name in names:
            if name not in self.layers:
                raise PriorError(f"the prior has no layer {name!r}; there are {', '.join(self.layers)}")

    @property
    def unet(self) -> Any:
        """The diffusers U-Net."""
        return self.network.unet

    @property
    def null_class(self) -> int | None:
        """Index of the class that means "no class"; None if the U-Net is not class-conditional."""
        return getattr(self.network, "null_class", None)

    @property
    def size_multiple(self) -> int:
        """Image sides, in pixels, must be multiples of this."""
        return self.network.image_multiple

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights; inputs are cast to it."""
        return self.network.dtype

    def checkpoint(self) -> None:
        """Turn on gradient checkpointing: the backward pass computes the activations inside blocks again."""
        self.unet.enable_gradient_checkpointing()

    def compile_passes(self) -> None:
        """Compile the forward pass with torch.compile; the first calls then take a minute or more.

        Raises:
            PriorError: a latent prior, which cannot be compiled.
        """
        self.network.compile_passes()

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode."""
        return super().train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Stay frozen."""
        return super().requires_grad_(False)

    def _freeze(self) -> None:
        """Return to eval mode without trainable weights, whatever a parent module or the user has changed."""
        if any(parameter.requires_grad for parameter in self.parameters()):
            self.requires_grad_(False)
        if any(module.training for module in self.modules()):
            self.train(False)

    def _check_input(self, noisy: Tensor, timesteps: Tensor) -> None:
        channels, multiple = self.network.channels, self.network.input_multiple
        if noisy.ndim != 4 or noisy.shape[1] != channels:
            raise PriorError(f"noisy: expected (N,{channels},H,W), got {tuple(noisy.shape)}")
        if noisy.shape[2] % multiple or noisy.shape[3] % multiple or 0 in noisy.shape[2:]:
            raise PriorError(
                f"noisy: the prior needs sides that are multiples of {multiple}, got {tuple(noisy.shape[2:])}; "
                "crop to such a size or let the loss resize its view"
            )
        self.schedule.check(timesteps, len(noisy))


def _load_network(source: str | Path, null_class: int | None) -> PriorNetwork:
    """The U-Net of a folder or hub id, with its VAE if it is a latent diffusion model.

    Raises:
        PriorError: there is no such folder or model, or it cannot be a prior.
        Exception: whatever diffusers raises for a configuration or weights that it cannot read.
    """
    from diffusers import UNet2DModel

    config, subfolder = _read_config(UNet2DModel, source, "unet")
    if config.get("_class_name") == "UNet2DConditionModel":
        return _load_latent_network(source)
    if config.get("_class_name") != "UNet2DModel":
        raise PriorError(f"{source}: expected a UNet2DModel, found {config.get('_class_name')}")
    unet, loading = UNet2DModel.from_pretrained(
        source, subfolder=subfolder, low_cpu_mem_usage=False, output_loading_info=True
    )
    if loading["missing_keys"]:  # diffusers leaves these weights random and only warns
        names = ", ".join(sorted(loading["missing_keys"])[:LONGEST_LIST])
        raise PriorError(f"{source}: the weights lack {names}")
    load_attention_heads(unet, Path(source))
    if null_class is None:
        null_class = stored_null_class(Path(source))
    return PixelNetwork(unet, null_class)


def _load_scheduler(source: str | Path) -> Any:
    """A DDPMScheduler with the noise schedule of any sampler in a folder or hub id."""
    from diffusers import DDPMScheduler

    config, _ = _read_config(DDPMScheduler, source, "scheduler")
    return DDPMScheduler(**{key: config[key] for key in SCHEDULE_KEYS if key in config})


def _load_latent_network(source: str | Path) -> LatentNetwork:
    """The networks of Stable Diffusion in a folder that also has the embedding of the empty prompt."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from safetensors.torch import load_file

    path = Path(source) / EMPTY_PROMPT_FILE
    if not path.exists():
        raise PriorError(
            f"{path} is missing: a text-conditional prior needs the embedding of its empty prompt, a tensor 'empty' "
            "(1,tokens,width); docs/explanation/diffloss.md shows how to write it"
        )
    return LatentNetwork(
        UNet2DConditionModel.from_pretrained(source, subfolder="unet", low_cpu_mem_usage=False),
        AutoencoderKL.from_pretrained(source, subfolder="vae", low_cpu_mem_usage=False),
        load_file(path)["empty"],
    )


def _read_config(kind: Any, source: str | Path, part: str) -> tuple[dict[str, Any], str | None]:
    """The configuration of a part and its sub-folder, which is None for older hub models."""
    is_folder = isinstance(source, Path) or Path(source).absolute().parent.is_dir()  # and no hub id: <owner>/<name>
    for subfolder in (part, None):
        try:
            config = kind.load_config(source, subfolder=subfolder, local_files_only=is_folder)
        except OSError as error:
            failure = error
        else:
            return dict(config), subfolder
    raise PriorError(
        f"{source}: no {part} found; expected a folder written by DiffusionPrior.save or a diffusers pipeline "
        f"(sub-folders unet and scheduler), or a hub id that can be reached ({type(failure).__name__})"
    ) from failure
