"""DiffLoss: the difference between the restored and the clean image as a frozen diffusion model represents them.

Tan et al., "DiffLoss: unleashing diffusion model as constraint for training image restoration network", ACCV 2024.
For the restored image z and the clean image x in [-1,1], with the same timestep t and the same noise e for both:

    x_t = sqrt(a_t) x + sqrt(1 - a_t) e             z_t = sqrt(a_t) z + sqrt(1 - a_t) e
    natural  = mean square of noise(x_t, t) - noise(z_t, t)     noise: the noise that the model predicts
    semantic = mean square of h(x_t, t) - h(z_t, t)             h: its h-space, the output of the middle block
    total    = mean over images of natural_weight * natural + semantic_weight * semantic

The gradient flows through the model into z. `diffusion_terms` adds draws, views, layers, distances and precisions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..diffusion.prior import MIDDLE, NOISE, DiffusionPrior
from . import LossError
from .term import FrozenModule, check_images, check_noise, full_precision


class DiffLoss(FrozenModule):
    """The loss. `DiffLoss(prior)(restored, clean).total.backward()` trains the network behind `restored`.

    Weights are at least 0; the decoder does not run if `natural_weight` is 0. Timesteps are drawn from the half-open
    `timestep_range`. `seed` is that of the loss's generator; global random state is neither read nor written.
    """

    def __init__(
        self,
        prior: DiffusionPrior,
        natural_weight: float = 1.0,
        semantic_weight: float = 1.0,
        timestep_range: tuple[int, int] = (0, 1000),
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, weight in (("natural_weight", natural_weight), ("semantic_weight", semantic_weight)):
            if not 0 <= weight < float("inf"):
                raise LossError(f"{name}={weight}: expected a finite number of at least 0")
        self.low, self.high = timestep_range
        steps = prior.schedule.steps
        if not 0 <= self.low < self.high <= steps:
            raise LossError(f"timestep range {self.low}..{self.high}: expected 0 <= low < high <= {steps}, half-open")
        self.prior, self.natural_weight, self.semantic_weight = prior, natural_weight, semantic_weight
        self._generator = torch.Generator().manual_seed(seed)

    def forward(
        self,
        restored: Tensor,
        clean: Tensor,
        timesteps: Tensor | None = None,
        noise: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> "DiffLossTerms":
        """Compare images (N,3,H,W) in [0,1]. Timesteps (N,) and standard normal noise (N,3,H,W) are drawn if absent."""
        check_images(restored, clean, self.prior.size_multiple)
        generator = generator or self._generator
        z = self.prior.encode(2 * full_precision(restored) - 1)  # (N,3,H,W) in [-1,1]; a latent prior: (N,C,h,w)
        with torch.no_grad():
            x = self.prior.encode(2 * full_precision(clean) - 1)  # of the same shape, as everything below
        t = self.draw_timesteps(len(x), generator) if timesteps is None else timesteps  # (N,)
        e = self.draw_noise(x.shape, generator) if noise is None else check_noise(noise, x.shape)
        t, e = t.to(x.device), e.to(x)
        z_t, x_t = self.prior.add_noise(z, e, t), self.prior.add_noise(x, e, t)
        return self.compare(z_t, x_t, t)

    def compare(self, z_t: Tensor, x_t: Tensor, t: Tensor) -> "DiffLossTerms":
        """Both terms of noisy images z_t and x_t (N,3,H,W), timesteps t (N,); one pass of the prior for each image."""
        differences = self.differences(z_t, x_t, t, [MIDDLE, NOISE] if self.natural_weight else [MIDDLE])  # (N,) each
        return DiffLossTerms(self, (z_t, x_t, t), differences[MIDDLE], differences.get(NOISE))

    def differences(self, z_t: Tensor, x_t: Tensor, t: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Mean squared difference (N,) of the features at each layer; no gradient reaches the clean images."""
        with torch.no_grad():
            of_x = self.prior.maps(x_t, t, layers)  # layer -> (N,C,h,w)
        of_z = self.prior.maps(z_t, t, layers)  # layer -> (N,C,h,w)
        return {layer: mean_square(of_z[layer], of_x[layer]) for layer in layers}  # layer -> (N,)

    def draw_timesteps(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) int64 timesteps, uniform over the range."""
        density = torch.ones(self.high - self.low, device=generator.device)
        return self.low + torch.multinomial(density, count, replacement=True, generator=generator)

    def draw_noise(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """Standard normal noise of a shape."""
        return torch.randn(shape, generator=generator, device=generator.device)


class DiffLossTerms:
    """The unweighted terms (N,) and their weighted mean. `natural` is computed on first access if its weight is 0."""

    def __init__(
        self, loss: DiffLoss, noisy: tuple[Tensor, Tensor, Tensor], semantic: Tensor, natural: Tensor | None
    ) -> None:
        self._loss, self._noisy, self._natural = loss, noisy, natural  # noisy: z_t, x_t, t
        self.semantic = semantic  # (N,)

    @property
    def natural(self) -> Tensor:
        """(N,) mean squared differences of the predicted noise."""
        if self._natural is None:
            self._natural = self._loss.differences(*self._noisy, [NOISE])[NOISE]
        return self._natural

    @property
    def total(self) -> Tensor:
        """Scalar: mean over images of natural_weight * natural + semantic_weight * semantic."""
        total = self._loss.semantic_weight * self.semantic  # (N,)
        if self._loss.natural_weight:
            total = total + self._loss.natural_weight * self.natural  # (N,)
        return total.mean()


def mean_square(features: Tensor, target: Tensor) -> Tensor:
    """The mean squared difference (N,) of feature maps (N,C,h,w)."""
    return (full_precision(features) - full_precision(target)).square().flatten(1).mean(1)
