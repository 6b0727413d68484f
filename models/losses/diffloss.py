"""DiffLoss: how differently a frozen diffusion model sees the restored and the clean image.

Tan et al., "DiffLoss: unleashing diffusion model as constraint for training image restoration network", ACCV 2024.
Both images get the same timestep and the same noise. The natural term compares the noise that the model predicts for
them, the semantic term its h-space (output of the middle block). The gradient flows through the model into the restored
image. `models.losses.diffusion_terms` adds options to this loss: draws, views, layers, distances, precisions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..diffusion.prior import MIDDLE, NOISE, DiffusionPrior
from .term import FrozenModule, LossError, check_images, check_noise, full_precision


class NoisyPair(NamedTuple):
    """Restored and clean images (N,3,H,W) under the same noise, and their timesteps (N,)."""

    restored: Tensor
    clean: Tensor
    timesteps: Tensor


class DiffLossTerms:
    """The two terms, (N,) mean squared differences for each image, and their weighted sum.

    Without a weight, the natural term is computed when it is first read.
    """

    def __init__(self, loss: "DiffLoss", pair: NoisyPair, semantic: Tensor, natural: Tensor | None) -> None:
        self._loss, self._pair = loss, pair
        self.semantic, self._natural = semantic, natural

    @property
    def natural(self) -> Tensor:
        """(N,) unweighted."""
        if self._natural is None:
            self._natural = self._loss.differences(self._pair, [NOISE])[NOISE]
        return self._natural

    @property
    def total(self) -> Tensor:
        """Scalar: mean over images of natural_weight * natural + semantic_weight * semantic."""
        total = self._loss.semantic_weight * self.semantic  # (N,)
        if self._loss.natural_weight:
            total = total + self._loss.natural_weight * self.natural  # (N,)
        return total.mean()


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
    ) -> DiffLossTerms:
        """Compare images (N,3,H,W) in [0,1]. Timesteps (N,) and standard normal noise (N,3,H,W) are drawn if absent."""
        check_images(restored, clean, self.prior.size_multiple)
        generator = generator or self._generator
        z = self.prior.encode(2 * full_precision(restored) - 1)  # (N,3,H,W) in [-1,1]; a latent prior: (N,C,h,w)
        with torch.no_grad():
            x = self.prior.encode(2 * full_precision(clean) - 1)  # (N,3,H,W), and so on for a latent prior
        t = self.draw_timesteps(len(x), generator) if timesteps is None else timesteps  # (N,)
        e = self.draw_noise(x.shape, generator) if noise is None else check_noise(noise, x.shape)  # (N,3,H,W)
        t, e = t.to(x.device), e.to(x)
        z_t, x_t = self.prior.add_noise(z, e, t), self.prior.add_noise(x, e, t)  # (N,3,H,W) each
        return self.compare(NoisyPair(z_t, x_t, t))

    def compare(self, pair: NoisyPair) -> DiffLossTerms:
        """Both terms, from one pass of the prior for each image."""
        differences = self.differences(pair, [MIDDLE, NOISE] if self.natural_weight else [MIDDLE])  # (N,) each
        return DiffLossTerms(self, pair, differences[MIDDLE], differences.get(NOISE))

    def differences(self, pair: NoisyPair, layers: Sequence[str]) -> dict[str, Tensor]:
        """Mean squared difference (N,) of the features at each layer; no gradient reaches the clean images."""
        with torch.no_grad():
            target = self.prior.maps(pair.clean, pair.timesteps, layers)  # layer -> (N,C,h,w)
        seen = self.prior.maps(pair.restored, pair.timesteps, layers)  # layer -> (N,C,h,w)
        squares = {name: (full_precision(seen[name]) - full_precision(target[name])).square() for name in layers}
        return {name: square.flatten(1).mean(1) for name, square in squares.items()}  # layer -> (N,)

    def draw_timesteps(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) int64 timesteps, uniform."""
        density = torch.ones(self.high - self.low, device=generator.device)
        return self.low + torch.multinomial(density, count, replacement=True, generator=generator)

    def draw_noise(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """Standard normal noise of a shape."""
        return torch.randn(shape, generator=generator, device=generator.device)
