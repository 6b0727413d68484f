"""DiffLoss: how differently a frozen diffusion model sees the restored and the clean image.

Tan et al., "DiffLoss: unleashing diffusion model as constraint for training image restoration network", ACCV 2024.
Both images are noised with the same timestep t and the same noise e. The natural term compares the noise that the
model predicts for them, the semantic term its h-space (the output of the middle block). The model is frozen; the
gradient flows through it into the restored image.
"""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from models.diffusion.prior import DiffusionPrior, Features
from models.losses.checks import check_images
from models.losses.settings import LossError
from models.losses.timesteps import TimestepSampler
from models.losses.views import Views


class DiffLossTerms:
    """Values of the two terms and their weighted sum.

    A term with weight zero costs nothing unless it is read: `natural` is then computed on first access.
    """

    def __init__(
        self, natural: Tensor | Callable[[], Tensor], semantic: Tensor, natural_weight: float, semantic_weight: float
    ) -> None:
        self._natural = natural
        self.semantic = semantic
        self._weights = natural_weight, semantic_weight

    @property
    def natural(self) -> Tensor:
        """(N,) mean squared difference of the predicted noise, for each image, unweighted."""
        if not isinstance(self._natural, Tensor):
            self._natural = self._natural()
        return self._natural

    @property
    def total(self) -> Tensor:
        """Scalar: mean over images of natural_weight * natural + semantic_weight * semantic."""
        natural_weight, semantic_weight = self._weights
        total = semantic_weight * self.semantic
        if natural_weight:
            total = total + natural_weight * self.natural
        return total.mean()


class DiffLoss(nn.Module):
    """The loss. `DiffLoss(prior)(restored, clean).total.backward()` trains the network behind `restored`.

    Args:
        prior: the frozen diffusion model.
        natural_weight, semantic_weight: weights of the two terms in `total`, at least 0. With natural_weight 0
            the decoder is not run.
        timestep_range: half-open window [low, high) from which t is drawn.
        timestep_sampling: how, a key of `models.losses.timesteps.DENSITIES`.
        draws: (t, e) pairs for each image and call; the terms are their means.
        views: at which size or sizes the prior sees the images; their own by default.
        seed: seed of the loss's own generator, which serves calls that bring none. No global state is used.

    Raises:
        LossError: a weight, window, number or name out of its range.
    """

    def __init__(
        self, prior: DiffusionPrior, natural_weight: float = 1.0, semantic_weight: float = 1.0,
        timestep_range: tuple[int, int] = (0, 1000), *, timestep_sampling: str = "uniform", draws: int = 1,
        views: Views | None = None, seed: int = 0,
    ) -> None:
        super().__init__()
        for name, weight in (("natural_weight", natural_weight), ("semantic_weight", semantic_weight)):
            if not 0 <= weight < float("inf"):
                raise LossError(f"{name}={weight}: expected a finite number of at least 0")
        if draws < 1:
            raise LossError(f"draws={draws}: expected at least 1")
        self.prior = prior
        self.natural_weight, self.semantic_weight = natural_weight, semantic_weight
        self.sampler = TimestepSampler(prior.schedule, timestep_range, timestep_sampling)
        self.draws = draws
        self.views = views or Views()
        self._generator = torch.Generator().manual_seed(seed)

    def forward(
        self, restored: Tensor, clean: Tensor, timesteps: Tensor | None = None, noise: Tensor | None = None,
        *, generator: torch.Generator | None = None,
    ) -> DiffLossTerms:
        """Compare restored with clean images.

        Args:
            restored, clean: (N,3,H,W) in [0,1]; the gradient reaches `restored` only.
            timesteps: (N,) integers; drawn from the window where not given.
            noise: standard normal noise of the images' shape; drawn where not given.
            generator: source of what is drawn; the loss's own where not given.

        Raises:
            LossError, PriorError, ScheduleError: images, noise or timesteps that do not fit.
        """
        check_images(restored, clean)
        generator = generator or self._generator
        scales = self.views(_working(restored), _working(clean), self.prior.size_multiple)
        if (timesteps is not None or noise is not None) and self.draws * len(scales) > 1:
            raise LossError("timesteps and noise can be given only with one draw and one view size")
        terms = [
            self._compare(seen, target, timesteps, noise, generator)
            for seen, target in scales for _ in range(self.draws)
        ]
        return self._mean(terms)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval: nothing in here is trained."""
        return super().train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Stay frozen."""
        return super().requires_grad_(False)

    def _compare(
        self, restored: Tensor, clean: Tensor, timesteps: Tensor | None, noise: Tensor | None,
        generator: torch.Generator,
    ) -> tuple[Tensor | Callable[[], Tensor], Tensor]:
        """Both terms, (N,) each, for one view and one draw; the natural one deferred where it has no weight."""
        with torch.no_grad():
            target = self.prior.encode(2 * clean - 1)
        seen = self.prior.encode(2 * restored - 1)
        timesteps = self.sampler.draw(len(seen), generator) if timesteps is None else timesteps
        timesteps = timesteps.to(seen.device)
        noise = _draw_noise(target, generator) if noise is None else _checked_noise(noise, target)
        noisy = self.prior.add_noise(seen, noise, timesteps)
        noisy_target = self.prior.add_noise(target, noise, timesteps)
        if self.natural_weight:
            with torch.no_grad():
                wanted = self.prior(noisy_target, timesteps)
            return _differences(self.prior(noisy, timesteps), wanted)
        with torch.no_grad():
            wanted_hspace = self.prior.hspace(noisy_target, timesteps)
        semantic = _difference(self.prior.hspace(noisy, timesteps), wanted_hspace)
        return lambda: self._natural(noisy, noisy_target, timesteps), semantic

    def _natural(self, noisy: Tensor, noisy_target: Tensor, timesteps: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.prior(noisy_target, timesteps).noise
        return _difference(self.prior(noisy, timesteps).noise, wanted)

    def _mean(self, terms: list[tuple[Tensor | Callable[[], Tensor], Tensor]]) -> DiffLossTerms:
        def natural() -> Tensor:
            values = [value if isinstance(value, Tensor) else value() for value, _ in terms]
            return torch.stack(values).mean(0)

        semantic = torch.stack([value for _, value in terms]).mean(0)
        return DiffLossTerms(
            natural() if self.natural_weight else natural, semantic, self.natural_weight, self.semantic_weight
        )


def _working(image: Tensor) -> Tensor:
    """float32 at least: half-precision images would lose the small differences that the terms measure."""
    return image if image.dtype == torch.float64 else image.float()


def _draw_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(like.shape, generator=generator, device=generator.device)
    return noise.to(device=like.device, dtype=like.dtype)


def _checked_noise(noise: Tensor, like: Tensor) -> Tensor:
    if noise.shape != like.shape:
        raise LossError(f"noise: expected the shape of what is noised, {tuple(like.shape)}, got {tuple(noise.shape)}")
    if not torch.isfinite(noise).all():
        raise LossError("noise: holds NaN or infinite values")
    return noise.to(device=like.device, dtype=like.dtype)


def _differences(seen: Features, wanted: Features) -> tuple[Tensor, Tensor]:
    return _difference(seen.noise, wanted.noise), _difference(seen.hspace, wanted.hspace)


def _difference(seen: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared difference of each image, (N,)."""
    return (_working(seen) - _working(wanted)).square().flatten(1).mean(1)
