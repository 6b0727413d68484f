"""The settings of every loss: plain types and defaults, readable without torch. docs/diffloss.md explains each."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from ..data_parallel import WHOLE, BatchShare

if TYPE_CHECKING:
    from ..diffusion.prior import DiffusionPrior


class LossError(ValueError):
    """A setting or an input that a loss cannot take; the text names it."""


@dataclass(frozen=True)
class PixelSettings:
    """The pixel term, part of every objective."""

    kind: Literal["l1", "l2", "charbonnier"] = "l1"
    weight: float = 1.0


@dataclass(frozen=True)
class TermSettings:
    """How a term is added to the pixel loss.

    weighting "ratio": `strength` is the norm of the term's gradient at the restored image, against the pixel loss's.
    weighting "raw": the term is multiplied by its raw weight.
    """

    weighting: Literal["ratio", "raw"] = "ratio"
    strength: float = 0.5
    from_step: int = 0  # leave the term out before this step: its cost falls on the end of the training alone
    every: int = 1  # evaluate the term at each k-th step only, and weigh it k times
    calibrate_every: int = 20  # steps between two measurements of the gradient norms

    def __post_init__(self) -> None:
        if min(self.every, self.calibrate_every) < 1 or min(self.strength, self.from_step) < 0:
            raise LossError("expected every and calibrate_every >= 1, strength and from_step >= 0")


@dataclass(frozen=True)
class DiffusionSettings(TermSettings):
    """The terms `natural`, `semantic` and `diffloss` (both)."""

    natural_weight: float = 1e-3  # raw, on [-1,1] images, as the method's authors released them
    semantic_weight: float = 1e-6
    timesteps: tuple[int, int] = (0, 1000)
    timestep_sampling: Literal["uniform", "clean", "noisy"] = "uniform"
    layers: tuple[str, ...] = ("middle",)  # of the U-Net, where the semantic term compares
    distance: Literal["mse", "channel", "cosine"] = "mse"  # how it compares there
    draws: int = 1  # (t, noise) pairs for each image and step
    view: Literal["own", "resize", "multi-scale"] = "own"
    view_sizes: tuple[int, ...] = (64,)
    bank: Literal["off", "memory", "disk"] = "off"
    bank_draws: int = 4  # fixed (t, noise) pairs for each clean view
    precision: Literal["float32", "mixed", "decoder", "bfloat16", "autocast"] = "float32"
    channels_last: bool = False
    compile: bool = False
    checkpointing: bool = False  # less memory, more time


@dataclass(frozen=True)
class LpipsSettings(TermSettings):
    """The term `lpips`."""

    raw_weight: float = 0.1
    backbone: Literal["alex", "vgg", "squeeze"] = "alex"


@dataclass(frozen=True)
class TaskSettings(TermSettings):
    """The term `task`."""

    network: str = "detection"  # the task whose trained network gives the features
    raw_weight: float = 0.1


ROUNDING = 1e-3  # how far a value may leave [0,1] and still pass as rounding: a quarter of an 8-bit step


def check_images(restored: Tensor, clean: Tensor) -> None:
    """Raise LossError unless both are finite (N,3,H,W) floats in [0,1] of one shape on one device."""
    for name, image in (("restored", restored), ("clean", clean)):
        if not torch.is_tensor(image) or not image.is_floating_point():
            got = image.dtype if torch.is_tensor(image) else type(image).__name__
            raise LossError(f"{name}: expected a float tensor with values in [0,1], got {got}")
        if image.ndim != 4 or image.shape[1] != 3 or 0 in image.shape:
            raise LossError(f"{name}: expected (N,3,H,W) RGB images, got {tuple(image.shape)}")
    if restored.shape != clean.shape:
        raise LossError(f"restored {tuple(restored.shape)} and clean {tuple(clean.shape)} must have one shape")
    if restored.device != clean.device:
        raise LossError(f"restored is on {restored.device}, clean on {clean.device}: expected one device")
    for name, image in (("restored", restored), ("clean", clean)):
        check_range(name, image)


def check_range(name: str, image: Tensor) -> None:
    """Raise LossError for values that are not finite or leave [0,1] by more than rounding."""
    low, high = (float(bound) for bound in torch.aminmax(image.detach()))
    if low >= -ROUNDING and high <= 1 + ROUNDING:
        return
    if not torch.isfinite(image).all():
        raise LossError(f"{name}: holds NaN or infinite values")
    raise LossError(
        f"{name}: expected values in [0,1], got {low:.4g} to {high:.4g}; "
        "divide 8-bit images by 255, map [-1,1] images by (x + 1) / 2, clamp a network's raw output"
    )


@dataclass(frozen=True)
class Frozen:
    """What a training run can lend to its terms: frozen networks, a folder for cached features, its share."""

    prior: "DiffusionPrior | None" = None
    task_features: Callable[[Tensor], list[Tensor]] | None = None
    bank_folder: Path | None = None
    share: BatchShare = WHOLE


class Term(nn.Module, ABC):
    """One entry of an objective besides the pixel loss.

    `raw_weights` names the components and the factor of each under weighting "raw", for a pixel loss on [0,1]
    images.
    """

    def __init__(self, settings: TermSettings, raw_weights: Mapping[str, float]) -> None:
        super().__init__()
        self.settings = settings
        self.raw_weights = dict(raw_weights)

    @abstractmethod
    def forward(self, restored: Tensor, clean: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Scalar components by name; images (N,3,H,W) in [0,1], differentiable in `restored`."""
