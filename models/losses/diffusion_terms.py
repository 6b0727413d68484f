"""The losses `natural`, `semantic` and `diffloss`: one or both terms of DiffLoss, with options."""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from ..data_parallel import SINGLE_RANK, Rank
from ..diffusion.networks import PriorError
from ..diffusion.precision import at_precision
from ..diffusion.prior import MIDDLE, NOISE, DiffusionPrior
from ..diffusion.schedule import ScheduleError
from ..settings import Count
from . import TRAINED, UNTRAINED, LossError
from .diffloss import DiffLoss, DiffLossTerms, mean_square
from .distances import DISTANCES
from .term import LossInputs, Term, TermSettings, check_images, full_precision


class Settings(TermSettings):
    """Options of DiffLoss: docs/explanation/diffloss.md and docs/reference/parameters.md.

    Attributes:
        natural_weight, semantic_weight: raw weights for [-1,1] images, as the method's authors released them.
        prior: "trained": that of the stage train_prior; "untrained": a control, the same with random weights; or a
            diffusers folder with another prior.
        timesteps: half-open window from which timesteps are drawn.
        timesteps_of: the windows of single degradations, if they differ.
        timestep_sampling: density over the window: uniform, or towards clean or noisy images.
        layers: layers of the U-Net at which the semantic term compares; it is the mean over them.
        distance: how it compares there: squared, relative to each channel's variance, or cosine.
        draws: timesteps and noises for each image and step; the terms are means over them.
        view: "own": the prior sees the images as they are; "resize": with the one size in `view_sizes` as the shorter
            side; "multi-scale": at all these sizes, and the terms are means over them.
        view_sizes: sides in pixels, rounded to the prior's size multiple.
        precision: of the prior's evaluation.
        channels_last: memory format of the prior's inputs; faster convolutions on many CPUs and GPUs.
        compile: use torch.compile; the first steps then take a minute or more.
        checkpointing: keep no activations for the backward pass; less memory, more time.
    """

    natural_weight: float = 1e-3
    semantic_weight: float = 1e-6
    prior: str = TRAINED
    timesteps: tuple[int, int] = (0, 1000)
    timesteps_of: dict[str, tuple[int, int]] = Field(default={})
    timestep_sampling: Literal["uniform", "clean", "noisy"] = "uniform"
    layers: Annotated[tuple[str, ...], Field(min_length=1)] = (MIDDLE,)
    distance: Literal["mse", "channel", "cosine"] = "mse"
    draws: Count = 1
    view: Literal["own", "resize", "multi-scale"] = "own"
    view_sizes: tuple[Count, ...] = (64,)
    precision: Literal["auto", "float32", "mixed", "decoder", "bfloat16", "autocast"] = "float32"
    channels_last: bool = False
    compile: bool = False
    checkpointing: bool = False

    @property
    def own_prior(self) -> Path | None:
        """The folder of a prior that only this loss uses."""
        return None if self.prior in (TRAINED, UNTRAINED) else Path(self.prior)

    @property
    def files(self) -> list[Path]:
        """The files that the loss reads: those of a prior of its own."""
        return sorted(path for path in self.own_prior.rglob("*") if path.is_file()) if self.own_prior else []

    @model_validator(mode="after")
    def _fits_together(self) -> "Settings":
        if self.view == "resize" and len(self.view_sizes) != 1:
            raise ValueError(f"view 'resize' needs one view_sizes, got {list(self.view_sizes)}; use 'multi-scale'")
        if self.view == "multi-scale" and not self.view_sizes:
            raise ValueError("view 'multi-scale' needs at least one view_sizes, got []")
        if self.precision not in ("float32", "autocast") and (self.checkpointing or self.compile):
            raise ValueError(f"precision {self.precision!r} excludes checkpointing and compile; use 'autocast'")
        return self


class MeanTerms(DiffLossTerms):
    """Means over the terms of several draws and views."""

    def __init__(self, loss: DiffLoss, terms: Sequence[DiffLossTerms]) -> None:
        self._loss, self._terms = loss, terms
        self.semantic = torch.stack([draw.semantic for draw in terms]).mean(0)  # (N,)

    @property
    def natural(self) -> Tensor:
        """(N,) unweighted."""
        return torch.stack([draw.natural for draw in self._terms]).mean(0)


class DiffLossWithOptions(DiffLoss):
    """DiffLoss with the options of its settings; their raw weights do not count here.

    Args:
        prior: the frozen diffusion model.
        settings: options.
        natural_weight, semantic_weight: as in `DiffLoss`.
        rank: this process of a data-parallel training; draws do not depend on the number of ranks.
        seed: as in `DiffLoss`.

    Raises:
        LossError, PriorError: a weight, window or layer that does not fit the prior.
    """

    def __init__(
        self,
        prior: DiffusionPrior,
        settings: Settings,
        natural_weight: float = 1.0,
        semantic_weight: float = 1.0,
        rank: Rank = SINGLE_RANK,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__(prior, natural_weight, semantic_weight, settings.timesteps, seed=seed)
        prior.check_layers(settings.layers)
        self.settings, self.rank = settings, rank
        self._density = DENSITIES[settings.timestep_sampling](prior.schedule.alphas_cumprod[self.low : self.high])

    def forward(
        self,
        restored: Tensor,
        clean: Tensor,
        timesteps: Tensor | None = None,
        noise: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> DiffLossTerms:
        """Compare images (N,3,H,W) in [0,1], as `DiffLoss`; means over views and draws.

        Raises:
            LossError, PriorError, ScheduleError: as `DiffLoss`; or timesteps or noise for several draws or views.
        """
        views = self._views(restored, clean)
        if (timesteps is not None or noise is not None) and self.settings.draws * len(views) > 1:
            raise LossError("timesteps and noise are possible only with one draw and one view size")
        terms = [
            super(DiffLossWithOptions, self).forward(*view, timesteps, noise, generator=generator)
            for view in views
            for _ in range(self.settings.draws)
        ]
        return terms[0] if len(terms) == 1 else MeanTerms(self, terms)

    def compare(self, z_t: Tensor, x_t: Tensor, t: Tensor) -> DiffLossTerms:
        """Both terms, from one pass of the prior for each image; the semantic one is the mean over the layers."""
        layers = [*self.settings.layers, *([NOISE] if self.natural_weight else [])]
        differences = self.differences(z_t, x_t, t, list(dict.fromkeys(layers)))  # (N,) each
        semantic = torch.stack([differences[layer] for layer in self.settings.layers]).mean(0)  # (N,)
        return DiffLossTerms(self, (z_t, x_t, t), semantic, differences.get(NOISE))

    def differences(self, z_t: Tensor, x_t: Tensor, t: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """The distance (N,) of the features at each layer; of predicted noise always the mean squared difference."""
        with torch.no_grad():
            of_x = self._features(x_t, t, layers)  # layer -> (N,C,h,w)
        of_z = self._features(z_t, t, layers)  # layer -> (N,C,h,w)
        differences = {}
        for layer in layers:
            distance = mean_square if layer == NOISE else DISTANCES[self.settings.distance]
            differences[layer] = distance(full_precision(of_z[layer]), full_precision(of_x[layer]))  # (N,)
        return differences

    def draw_timesteps(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) int64 timesteps with the density of the settings, this rank's slice."""
        return self.rank.slice_of(partial(self._draw_batch_timesteps, generator), count)

    def draw_noise(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """Standard normal noise of a shape, this rank's slice."""
        return self.rank.slice_of(partial(self._draw_batch_noise, generator, shape[1:]), shape[0])

    def _draw_batch_timesteps(self, generator: torch.Generator, count: int) -> Tensor:
        density = self._density.float().to(generator.device)
        return self.low + torch.multinomial(density, count, replacement=True, generator=generator)

    def _draw_batch_noise(self, generator: torch.Generator, shape: torch.Size, count: int) -> Tensor:
        return super().draw_noise(torch.Size((count, *shape)), generator)

    def _features(self, noisy: Tensor, timesteps: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        if self.settings.channels_last:
            noisy = noisy.contiguous(memory_format=torch.channels_last)
        with at_precision(self.settings.precision, noisy.device):
            return self.prior.maps(noisy, timesteps, layers)

    def _views(self, restored: Tensor, clean: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The pairs of images that the prior sees."""
        if self.settings.view == "own":
            return [(restored, clean)]
        check_images(restored, clean)
        restored, clean, multiple = full_precision(restored), full_precision(clean), self.prior.size_multiple
        return [(resize(restored, size, multiple), resize(clean, size, multiple)) for size in self.settings.view_sizes]


def untrained(prior: DiffusionPrior, seed: int = 0) -> DiffusionPrior:
    """A copy of a prior whose U-Net has random weights: a control for what a loss owes to the prior's training.

    Args:
        prior: any; schedule, architecture and a latent prior's VAE stay.
        seed: of the weights. The global random state does not change.
    """
    copied = copy.deepcopy(prior)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in copied.network.unet.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    return copied


class NaturalAndSemantic(Term):
    """Both terms of DiffLoss."""

    needs_prior = True
    components: ClassVar[tuple[str, ...]] = ("natural", "semantic")
    settings: Settings

    def __init__(self, settings: Settings, inputs: LossInputs) -> None:
        super().__init__(settings, inputs)
        natural_weight, semantic_weight = (float(name in self.components) for name in ("natural", "semantic"))
        self._pixel_factor = inputs.pixel_factor
        prior = inputs.prior
        if settings.prior == UNTRAINED:
            prior = untrained(prior)
        elif settings.own_prior:
            prior = DiffusionPrior.load(settings.own_prior)
        self.diffloss = DiffLossWithOptions(prior, settings, natural_weight, semantic_weight, inputs.rank)
        if settings.checkpointing:
            prior.checkpoint()
        if settings.compile:
            prior.compile_passes()

    @classmethod
    def check(cls, settings: Settings) -> None:
        """Read the folder of another prior, and check that timesteps and layers are its own. See `Loss.check`."""
        if settings.own_prior is None:
            return
        try:
            prior = DiffusionPrior.load(settings.own_prior)
            prior.check_layers(settings.layers)
        except (PriorError, ScheduleError) as error:
            raise LossError(f"prior: {error}. Choose another folder, or {TRAINED} or {UNTRAINED}") from error
        for window in (settings.timesteps, *settings.timesteps_of.values()):
            DiffLoss(prior, timestep_range=window)

    @property
    def raw_weights(self) -> dict[str, float]:
        """The raw weights, which are for [-1,1] images, beside a pixel loss on [0,1] images."""
        weights = {"natural": self.settings.natural_weight, "semantic": self.settings.semantic_weight}
        return {name: weights[name] / self._pixel_factor for name in self.components}

    def forward(self, restored: Tensor, clean: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The components `natural`, `semantic` or both."""
        terms = self.diffloss(restored, clean, generator=generator)
        return {name: getattr(terms, name).mean() for name in self.components}


class Natural(NaturalAndSemantic):
    """The natural term of DiffLoss alone."""

    components = ("natural",)


class Semantic(NaturalAndSemantic):
    """The semantic term of DiffLoss alone."""

    components = ("semantic",)


def uniform(alphas: Tensor) -> Tensor:
    """The same density at all timesteps. `alphas` (T,) is the part of the image's power that is left at each."""
    return torch.ones_like(alphas)


def clean(alphas: Tensor) -> Tensor:
    """More density at timesteps with little noise, which show detail."""
    return alphas


def noisy(alphas: Tensor) -> Tensor:
    """More density at timesteps with much noise, which show content: the weights of P2, Choi et al. 2022, k=1."""
    return 1 - alphas


DENSITIES: Mapping[str, Callable[[Tensor], Tensor]] = {"uniform": uniform, "clean": clean, "noisy": noisy}


def resize(image: Tensor, size: int, multiple: int) -> Tensor:
    """Images (N,3,H,W) in [0,1] with `size` as the shorter side; both sides are rounded to a multiple.

    Bilinear with anti-aliasing, differentiable. The aspect ratio stays, up to the rounding.
    """
    scale = size / min(image.shape[2:])
    height, width = (max(multiple, round(side * scale / multiple) * multiple) for side in image.shape[2:])
    resized = F.interpolate(image, (height, width), mode="bilinear", antialias=True, align_corners=False)
    return resized.clamp(0, 1)
