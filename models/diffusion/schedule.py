"""The noise schedule: noisy images at a timestep, and the predicted noise for each type of prediction."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


class ScheduleError(ValueError):
    """A noise schedule that cannot be used, or a timestep outside it."""


class NoiseSchedule:
    """x_t = sqrt(a_t) x + sqrt(1 - a_t) e for t = 0 .. steps-1, with a_t the cumulative product of 1 - beta.

    DDPM (Ho et al. 2020), equation 4. The two coefficients are kept in float64 and cast to the image's type.

    Args:
        alphas_cumprod: (steps,) a_t, decreasing, in [0, 1].
        prediction_type: what the network was trained to predict, a key of `TO_NOISE`.

    Raises:
        ScheduleError: values of another shape or range, or an unknown prediction type.
    """

    def __init__(self, alphas_cumprod: Tensor, prediction_type: str = "epsilon") -> None:
        table = alphas_cumprod.detach().double().cpu()
        if table.ndim != 1 or not len(table) or not ((table >= 0) & (table <= 1)).all():
            raise ScheduleError(f"expected alphas_cumprod as one list of values in [0, 1], got {tuple(table.shape)}")
        if prediction_type not in TO_NOISE:
            raise ScheduleError(f"prediction type {prediction_type!r} is unknown; there are {', '.join(TO_NOISE)}")
        self.alphas_cumprod = table
        self.prediction_type = prediction_type
        self._tables: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    @classmethod
    def from_scheduler(cls, scheduler: Any) -> "NoiseSchedule":
        """The schedule of a diffusers scheduler that has `alphas_cumprod`.

        Raises:
            ScheduleError: it does not have them (score-based and flow schedulers).
        """
        table = getattr(scheduler, "alphas_cumprod", None)
        if table is None:
            raise ScheduleError(f"{type(scheduler).__name__} has no alphas_cumprod; use a DDPM-like scheduler")
        return cls(table, scheduler.config.get("prediction_type", "epsilon"))

    @property
    def steps(self) -> int:
        """Number of timesteps; valid ones are 0 .. steps-1."""
        return len(self.alphas_cumprod)

    def check(self, timesteps: Tensor, batch: int) -> None:
        """Raise ScheduleError unless `timesteps` is (batch,) integers within the schedule."""
        if timesteps.is_floating_point() or timesteps.shape != (batch,):
            got = f"{tuple(timesteps.shape)} {timesteps.dtype}"
            raise ScheduleError(f"timesteps: expected ({batch},) integers, one for each image, got {got}")
        if batch and not (int(timesteps.min()) >= 0 and int(timesteps.max()) < self.steps):
            outside = f"{int(timesteps.min())} to {int(timesteps.max())}"
            raise ScheduleError(f"timesteps: expected values from 0 to {self.steps - 1}, got {outside}")

    def add_noise(self, image: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The noisy image x_t. image and noise (N,C,H,W), timesteps (N,); differentiable in the image."""
        signal, spread = self.coefficients(timesteps, image)
        return signal * image + spread * noise

    def to_noise(self, prediction: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """The predicted noise (N,C,H,W), from a prediction of any type for a noisy image, both (N,C,H,W)."""
        if self.prediction_type == "epsilon":
            return prediction
        signal, spread = self.coefficients(timesteps, prediction)
        return TO_NOISE[self.prediction_type](prediction, noisy, signal, spread)

    def coefficients(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(a_t) and sqrt(1 - a_t), each (N,1,1,1), of the type and on the device of `like`."""
        key = (like.device, like.dtype)
        if key not in self._tables:
            table = torch.stack([self.alphas_cumprod.sqrt(), (1 - self.alphas_cumprod).sqrt()])
            self._tables[key] = table.to(like.dtype).to(like.device)
        signal, spread = self._tables[key][:, timesteps.to(like.device)].reshape(2, -1, 1, 1, 1)
        return signal, spread


def _from_sample(sample: Tensor, noisy: Tensor, signal: Tensor, spread: Tensor) -> Tensor:
    """The clean image was predicted: solve x_t = signal x + spread e for e."""
    return (noisy - signal * sample) / spread


def _from_v(v: Tensor, noisy: Tensor, signal: Tensor, spread: Tensor) -> Tensor:
    """V was predicted: v = signal e - spread x (Salimans and Ho 2022), hence e = signal v + spread x_t."""
    return signal * v + spread * noisy


def _unchanged(noise: Tensor, noisy: Tensor, signal: Tensor, spread: Tensor) -> Tensor:
    return noise


TO_NOISE: Mapping[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "epsilon": _unchanged,
    "v_prediction": _from_v,
    "sample": _from_sample,
}
