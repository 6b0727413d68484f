"""The contract of a loss: base classes, settings, the inputs that a training provides, and checks of images.

A loss is one module with a class `Settings` and a subclass of `Loss`, and one line in `models.losses.LOSSES`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from ..data_parallel import SINGLE_RANK, Rank
from ..settings import Count, NonNegative, Settings
from . import LossError

# Masks (N,H,W) int64 of N images; or the boxes (K,5) of each: class index, centre, width and height, normalised.
Labels = Tensor | list[Tensor]


@dataclass(frozen=True)
class LossInputs:
    """What a training provides for its losses.

    Attributes:
        prior: a `models.diffusion.prior.DiffusionPrior`, for losses that need one.
        task_features: images (N,3,H,W) in [0,1] to feature maps of a task network, for losses that need them.
        task_loss: images (N,3,H,W) in [0,1] and their labels to the training loss of a task network, a scalar, for
            losses that need it.
        pixel_factor: the pixel loss on [-1,1] images divided by the pixel loss on [0,1] images.
        rank: this process of a data-parallel training.
    """

    prior: Any = None
    task_features: Callable[[Tensor], list[Tensor]] | None = None
    task_loss: Callable[[Tensor, Labels], Tensor] | None = None
    pixel_factor: float = 1.0
    rank: Rank = SINGLE_RANK


class Loss(nn.Module, ABC):
    """A loss of restored against clean images.

    Args:
        settings: an instance of the class `Settings` in the loss's module.
        inputs: what the training provides.

    Attributes:
        needs_prior: whether the loss needs a diffusion prior.
        needs_task: whether the loss needs a task network: its features, or with `needs_labels` its training loss.
        needs_labels: whether `forward` takes the labels of the images as a fourth argument.
    """

    needs_prior: ClassVar[bool] = False
    needs_task: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = False

    def __init__(self, settings: Any, inputs: LossInputs) -> None:
        super().__init__()
        self.settings = settings

    @classmethod
    def check(cls, settings: Any) -> None:
        """Check that the files that the settings name can be used, before any work.

        Raises:
            LossError: a file is missing or cannot be used.
        """

    @property
    @abstractmethod
    def raw_weights(self) -> Mapping[str, float]:
        """The components, and the factor of each beside a pixel loss on [0,1] images under weighting "raw"."""

    @abstractmethod
    def forward(self, restored: Tensor, clean: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The components, scalars by name, of images (N,3,H,W) in [0,1]; differentiable in `restored`."""


class TermSettings(Settings):
    """How a loss is added to the pixel loss.

    Attributes:
        weighting: "ratio": by `strength`; "raw": by the raw weights.
        strength: norm of the gradient at the restored image, divided by that of the pixel loss's gradient.
        from_step: first step at which the loss is evaluated. Earlier steps take no longer than with the pixel loss.
        every: evaluate the loss at every k-th step only, with k times the weight.
        calibrate_every: evaluations between two measurements of the gradient norms. Within five measurements, the
            weights follow two thirds of a change.
    """

    weighting: Literal["ratio", "raw"] = "ratio"
    strength: Annotated[float, Field(ge=0)] = 0.5
    from_step: NonNegative = 0
    every: Count = 1
    calibrate_every: Count = 10


class Term(Loss):
    """A loss that an objective adds to the pixel loss."""

    settings: TermSettings


class FrozenModule(nn.Module):
    """A module of frozen networks: `.train()` and `.requires_grad_()` leave it in eval mode and frozen."""

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode."""
        return super().train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Stay frozen."""
        return super().requires_grad_(False)


ROUNDING = 1e-3  # by how much values may exceed [0,1]: a quarter of an 8-bit step


def full_precision(image: Tensor) -> Tensor:
    """The image in float32 or float64: half precision hides the small differences that losses measure."""
    return image if image.dtype == torch.float64 else image.float()


def check_images(restored: Tensor, clean: Tensor, multiple: int = 1) -> None:
    """Check that both images are finite (N,3,H,W) floats in [0,1] of one shape on one device.

    Args:
        restored: (N,3,H,W).
        clean: (N,3,H,W).
        multiple: H and W must be multiples of it.

    Raises:
        LossError: a tensor of another kind, shape, range or device.
    """
    for name, image in (("restored", restored), ("clean", clean)):
        if not torch.is_tensor(image) or not image.is_floating_point():
            kind = image.dtype if torch.is_tensor(image) else type(image).__name__
            raise LossError(f"{name}: expected a float tensor with values in [0,1], got {kind}")
        if image.ndim != 4 or image.shape[1] != 3 or 0 in image.shape:
            raise LossError(f"{name}: expected (N,3,H,W) RGB images, got {tuple(image.shape)}")
    if restored.shape != clean.shape:
        raise LossError(f"restored {tuple(restored.shape)} and clean {tuple(clean.shape)} must have one shape")
    if restored.device != clean.device:
        raise LossError(f"restored is on {restored.device}, clean on {clean.device}: expected one device")
    for name, image in (("restored", restored), ("clean", clean)):
        check_range(name, image)
    if restored.shape[2] % multiple or restored.shape[3] % multiple:
        raise LossError(
            f"images of {restored.shape[2]}x{restored.shape[3]}: the prior needs sides that are multiples of "
            f"{multiple}. Crop to such a size, or use a resized view."
        )


def check_range(name: str, image: Tensor) -> None:
    """Check that values are finite and in [0,1], up to `ROUNDING`.

    Raises:
        LossError: a value is not.
    """
    low, high = (float(bound) for bound in torch.aminmax(image.detach()))
    if low >= -ROUNDING and high <= 1 + ROUNDING:
        return
    if not torch.isfinite(image).all():
        raise LossError(f"{name}: holds NaN or infinite values")
    raise LossError(
        f"{name}: expected values in [0,1], got {low:.4g} to {high:.4g}. "
        "Divide 8-bit images by 255, map [-1,1] images by (x + 1) / 2, clamp a network's raw output."
    )


def check_noise(noise: Tensor, shape: torch.Size) -> Tensor:
    """Return the noise if it is finite and has the shape.

    Raises:
        LossError: NaN, infinite values or another shape.
    """
    if noise.shape != shape:
        raise LossError(f"noise: expected the shape {tuple(shape)} of the images or latents, got {tuple(noise.shape)}")
    if not torch.isfinite(noise).all():
        raise LossError("noise: holds NaN or infinite values")
    return noise
