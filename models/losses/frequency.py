"""The loss `frequency`: L1 distance of the Fourier transforms of restored and clean images.

Cho et al., "Rethinking coarse-to-fine approach in single image deblurring", ICCV 2021, equation 5. A control for losses
with a diffusion prior: it needs no network.
"""

import torch
from torch import Tensor

from .term import Term, TermSettings


class Settings(TermSettings):
    """The raw weight, as in the source.

    Attributes:
        raw_weight: for [0,1] images.
    """

    raw_weight: float = 0.1


class Frequency(Term):
    """Mean absolute difference of the real and imaginary parts of the two-dimensional Fourier coefficients."""

    settings: Settings

    @property
    def raw_weights(self) -> dict[str, float]:
        """The weight of the only component."""
        return {"frequency": self.settings.raw_weight}

    def forward(self, restored: Tensor, clean: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The component `frequency`."""
        spectrum = torch.fft.rfft2(restored.float() - clean.float())  # (N,3,H,W//2+1) complex
        return {"frequency": torch.view_as_real(spectrum).abs().mean()}
