"""DiffLoss: how differently a frozen diffusion model sees the restored and the clean image.

Tan et al., "DiffLoss: unleashing diffusion model as constraint for training image restoration network", ACCV
2024. Both images are noised with the same timestep t and the same noise e. The natural term compares the noise
that the model predicts for them, the semantic term its h-space (the output of the middle block). The model is
frozen; the gradient flows through it into the restored image.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Self

import torch
from torch import Tensor, nn

from ..data_parallel import WHOLE, BatchShare
from ..diffusion.precision import PRECISIONS, at_precision
from ..diffusion.prior import MIDDLE, NOISE, DiffusionPrior
from .diffusion_options import TimestepSampler, Views, get_distance, mse
from .feature_bank import FeatureBank
from .term import LossError, check_images


class DiffLossTerms:
    """Values of the two terms and their weighted sum.

    A term with weight zero costs nothing unless it is read: `natural` is then computed on first access.
    """

    def __init__(
        self,
        natural: Tensor | Callable[[], Tensor],
        semantic: Tensor,
        natural_weight: float,
        semantic_weight: float,
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
        natural_weight: weight of the natural term in `total`, at least 0. With 0 the decoder is not run.
        semantic_weight: weight of the semantic term, at least 0.
        timestep_range: half-open window [low, high) from which t is drawn.
        timestep_sampling: how, a key of `models.losses.diffusion_options.DENSITIES`.
        draws: (t, e) pairs for each image and call; the terms are their means.
        views: at which size or sizes the prior sees the images; their own by default.
        bank: fixed (t, e) pairs with the clean branch's features cached; see `models.losses.feature_bank`.
        precision: of the prior's evaluation, one of `models.diffusion.precision.PRECISIONS`.
        layers: where in the U-Net the semantic term compares, names among `prior.layers`; the mean over them. The
            paper's is the middle block alone.
        distance: how it compares there, a key of `models.losses.diffusion_options.DISTANCES`.
        channels_last: hand images to the prior in that memory format; faster convolutions on many CPUs and GPUs.
        share: which part of each batch it is given; what is drawn does not depend on the number of parts.
        seed: seed of the loss's own generator, which serves calls that bring none. No global state is used.

    Raises:
        LossError: a weight, window, number or name out of its range.
    """

    def __init__(
        self,
        prior: DiffusionPrior,
        natural_weight: float = 1.0,
        semantic_weight: float = 1.0,
        timestep_range: tuple[int, int] = (0, 1000),
        *,
        timestep_sampling: str = "uniform",
        draws: int = 1,
        views: Views | None = None,
        bank: FeatureBank | None = None,
        precision: str = "float32",
        layers: Sequence[str] = (MIDDLE,),
        distance: str = "mse",
        channels_last: bool = False,
        share: BatchShare = WHOLE,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, weight in (("natural_weight", natural_weight), ("semantic_weight", semantic_weight)):
            if not 0 <= weight < float("inf"):
                raise LossError(f"{name}={weight}: expected a finite number of at least 0")
        if draws < 1:
            raise LossError(f"draws={draws}: expected at least 1")
        if precision not in PRECISIONS:
            raise LossError(f"precision {precision!r} is unknown; there are {', '.join(PRECISIONS)}")
        if not layers:
            raise LossError(f"layers is empty; there are {', '.join(prior.layers)}")
        prior.check_layers(layers)
        self.prior = prior
        self.layers, self.distance = tuple(layers), get_distance(distance)
        self.natural_weight, self.semantic_weight = natural_weight, semantic_weight
        self.sampler = TimestepSampler(prior.schedule, timestep_range, timestep_sampling)
        self.draws = draws
        self.views = views or Views()
        self.bank = bank
        self.precision, self.channels_last = precision, channels_last
        self.share = share
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
        """Compare restored with clean images.

        Args:
            restored: (N,3,H,W) in [0,1]; the gradient reaches it.
            clean: (N,3,H,W) in [0,1].
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
            for seen, target in scales
            for _ in range(self.draws)
        ]
        return self._mean(terms)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval: nothing in here is trained."""
        return super().train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Stay frozen."""
        return super().requires_grad_(False)

    def _compare(
        self,
        restored: Tensor,
        clean: Tensor,
        timesteps: Tensor | None,
        noise: Tensor | None,
        generator: torch.Generator,
    ) -> tuple[Tensor | Callable[[], Tensor], Tensor]:
        """Both terms, (N,) each, for one view and one draw; the natural one deferred where it has no weight."""
        seen = self.prior.encode(2 * restored - 1)
        with torch.no_grad():
            target = self.prior.encode(2 * clean - 1)
        keys: list[str] = []
        if self.bank is not None and timesteps is None and noise is None:
            keys, timesteps, noise = self.bank.draw(clean, target, self.sampler, generator, self.share)
        if timesteps is None:
            timesteps = self.share.of(lambda count: self.sampler.draw(count, generator), len(seen))
        timesteps = timesteps.to(seen.device)
        noise = self._draw_noise(target, generator) if noise is None else _checked_noise(noise, target)
        noisy = self.prior.add_noise(seen, noise, timesteps)
        noisy_target = self.prior.add_noise(target, noise, timesteps)

        def differences(layers: Sequence[str]) -> dict[str, Tensor]:
            wanted = self._wanted(noisy_target, timesteps, keys, layers)
            found = self._see(noisy, timesteps, layers)
            return {name: self._difference(name, found[name], wanted[name]) for name in layers}

        full = self.natural_weight > 0
        found = differences(list(dict.fromkeys((*self.layers, *([NOISE] if full else [])))))
        semantic = torch.stack([found[name] for name in self.layers]).mean(0)
        return found[NOISE] if full else lambda: differences([NOISE])[NOISE], semantic

    def _difference(self, layer: str, seen: Tensor, wanted: Tensor) -> Tensor:
        """(N,): mean square where noise is compared, else the chosen distance."""
        return (mse if layer == NOISE else self.distance)(_working(seen), _working(wanted))

    def _draw_noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        def draw(count: int) -> Tensor:
            return torch.randn((count, *like.shape[1:]), generator=generator, device=generator.device)

        return self.share.of(draw, len(like)).to(device=like.device, dtype=like.dtype)

    def _wanted(self, noisy: Tensor, timesteps: Tensor, keys: list[str], layers: Sequence[str]) -> dict[str, Tensor]:
        """Features of the noisy clean images, without gradient, from the bank where there is one."""
        with torch.no_grad():
            if self.bank is None or not keys:
                return self._see(noisy, timesteps, layers)

            def compute(index: int) -> dict[str, Tensor]:
                one = slice(index, index + 1)
                features = self._see(noisy[one], timesteps[one], layers, reference=True)
                return {name: value[0] for name, value in features.items()}

            stored = self.bank.fetch(f"{self._scope}-{'-'.join(layers)}", keys, compute)
            return {name: value.to(noisy.device) for name, value in stored.items()}

    def _see(
        self, noisy: Tensor, timesteps: Tensor, layers: Sequence[str], reference: bool = False
    ) -> dict[str, Tensor]:
        """The prior's features of noisy images; nothing is run beyond the last of the layers."""
        if self.channels_last:
            noisy = noisy.contiguous(memory_format=torch.channels_last)
        with at_precision(self.precision, noisy.device, reference=reference):
            return self.prior.maps(noisy, timesteps, layers)

    @cached_property
    def _scope(self) -> str:
        """What cached features depend on besides the image: the prior's weights and how pairs are drawn."""
        digest = hashlib.blake2b(digest_size=8)
        for name, value in self.prior.state_dict().items():
            digest.update(name.encode() + value.detach().cpu().float().contiguous().numpy().tobytes())
        bank_seed = self.bank.seed if self.bank else 0
        digest.update(repr((self.sampler.low, self.sampler.weights.tolist(), self.precision, bank_seed)).encode())
        digest.update(self.prior.schedule.alphas_cumprod.numpy().tobytes())
        digest.update(self.prior.schedule.prediction_type.encode())
        return digest.hexdigest()

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


def _checked_noise(noise: Tensor, like: Tensor) -> Tensor:
    if noise.shape != like.shape:
        raise LossError(f"noise: expected the shape {tuple(like.shape)} of what is noised, got {tuple(noise.shape)}")
    if not torch.isfinite(noise).all():
        raise LossError("noise: holds NaN or infinite values")
    return noise.to(device=like.device, dtype=like.dtype)
