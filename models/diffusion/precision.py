"""How precisely a frozen U-Net is evaluated."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

PRECISIONS = ("float32", "mixed", "bfloat16", "autocast")
# Convolutions with fewer channels than this on either side, the two ends of the U-Net, stay in full precision.
FEWEST_CHANNELS = 16


def at_precision(name: str, device: torch.device, *, reference: bool = False) -> AbstractContextManager[Any]:
    """A context for forward passes through a frozen network; their backward passes need none.

    float32: as it is. autocast: torch's, to bfloat16. bfloat16: convolutions multiply in bfloat16, everything
    between them stays float32, which costs the same on CPUs with bfloat16 units and keeps small differences better.
    mixed: that for the backward pass alone. The terms are small differences of large features, which rounding in the
    forward pass blurs; their gradient is no such difference, and loses next to nothing.

    Args:
        name: one of `PRECISIONS`.
        device: where the network runs.
        reference: for values that are computed once and kept: with "bfloat16" only the weights are rounded.
    """
    if name == "float32" or (name == "mixed" and reference):
        return nullcontext()
    if name not in PRECISIONS:
        raise ValueError(f"precision {name!r} is unknown; there are {', '.join(PRECISIONS)}")
    if name == "autocast":
        return torch.autocast(device.type, torch.bfloat16)
    return _BfloatConvolutions(forward=name == "bfloat16", reference=reference)


class _BfloatConvolutions(TorchFunctionMode):
    """Replaces the two-dimensional convolutions of a frozen network while it is active."""

    _rounded = WeakTensorKeyDictionary()

    def __init__(self, forward: bool, reference: bool) -> None:
        super().__init__()
        self._forward = forward
        self._reference = reference

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is not F.conv2d or min(args[1].shape[:2]) < FEWEST_CHANNELS or args[1].dtype != torch.float32:
            return func(*args, **(kwargs or {}))
        image, weight, bias, stride, padding = args[:5]
        rounded = self._round(weight)
        if self._reference:
            return F.conv2d(image, rounded.float(), bias, stride, padding)
        kept = None if self._forward else weight
        return _Convolution.apply(image, rounded, kept, bias, tuple(stride), tuple(padding))

    @classmethod
    def _round(cls, weight: Tensor) -> Tensor:
        """The weight in bfloat16, kept as long as the weight itself lives."""
        kept = cls._rounded.get(weight)
        if kept is None or kept.device != weight.device:
            kept = weight.detach().to(torch.bfloat16, memory_format=torch.channels_last)
            cls._rounded[weight] = kept
        return kept


class _Convolution(torch.autograd.Function):
    """float32 in and out, bfloat16 within, for a weight that is not trained.

    Where the exact weight is given beside the rounded one, only the backward pass is rounded.
    """

    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        rounded: Tensor,
        exact: Tensor | None,
        bias: Tensor,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> Tensor:
        ctx.weight, ctx.shape, ctx.stride, ctx.padding = rounded, image.shape, stride, padding
        if exact is not None:
            return F.conv2d(image, exact, bias, stride, padding)
        return F.conv2d(image.bfloat16(), rounded, None, stride, padding).float() + bias[:, None, None]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        gradient = gradients[0].bfloat16()
        image = gradient.new_empty(1).expand(ctx.shape)  # its values are not needed, only its shape
        geometry = ctx.stride, ctx.padding, (1, 1), False, (0, 0), 1
        wanted = torch.ops.aten.convolution_backward(
            gradient, image, ctx.weight, None, *geometry, (True, False, False)
        )[0]
        return wanted.float(), None, None, None, None, None
