"""What every loss demands of its two images, said in one place."""

import torch
from torch import Tensor

from models.losses.settings import LossError

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
