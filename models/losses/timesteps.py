"""Which timesteps the diffusion terms look at."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from models.diffusion.schedule import NoiseSchedule
from models.losses.settings import LossError

# Density over the window as a function of a_t, the share of the image's power that survives at t.
DENSITIES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "uniform": torch.ones_like,
    "clean": lambda alphas: alphas,  # favours little noise: detail
    "noisy": lambda alphas: 1 - alphas,  # favours much noise: content (the weights of P2, Choi et al. 2022, k=1)
}


class TimestepSampler:
    """Draws timesteps from a half-open window [low, high) of a schedule.

    Raises:
        LossError: an empty window or one outside the schedule, or an unknown density.
    """

    def __init__(self, schedule: NoiseSchedule, window: tuple[int, int], density: str = "uniform") -> None:
        low, high = window
        if not 0 <= low < high <= schedule.steps:
            raise LossError(f"timestep range {low}..{high}: expected 0 <= low < high <= {schedule.steps}, half-open")
        if density not in DENSITIES:
            raise LossError(f"timestep sampling {density!r} is unknown; there are {', '.join(DENSITIES)}")
        self.low = low
        self.weights = DENSITIES[density](schedule.alphas_cumprod[low:high])

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) int64 timesteps, on the generator's device."""
        weights = self.weights.float().to(generator.device)
        return self.low + torch.multinomial(weights, count, replacement=True, generator=generator)
