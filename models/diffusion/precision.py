"""Precisions of the passes through a frozen U-Net, and operations that make bfloat16 faster than float32 on CPUs."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from ..mixed_precision import has_bfloat16_units

PRECISIONS = ("auto", "float32", "mixed", "decoder", "bfloat16", "autocast")
# Convolutions with fewer channels than this on either side, the two ends of the U-Net, stay in full precision.
FEWEST_CHANNELS = 16

_decoder_type: ContextVar[torch.dtype | None] = ContextVar("decoder_type", default=None)


@contextmanager
def at_precision(name: str, device: torch.device) -> Iterator[None]:
    """A context for forward passes through a frozen network. Their backward passes need no context.

    auto: `decoder` on CPUs with bfloat16 units, or else `float32`.
    float32: everything in float32.
    autocast: torch's autocast to bfloat16.
    bfloat16: convolutions multiply in bfloat16, everything between them is in float32. On CPUs with bfloat16 units it
        takes as long as autocast and preserves small differences better.
    mixed: as bfloat16, but in the backward pass only. The terms of DiffLoss are small differences of large features.
        Rounding in the forward pass changes them a lot; rounding of their gradient changes very little.
    decoder: as mixed, and all of the decoder is in bfloat16, forward and backward. Rounding there changes the predicted
        noise only; the h-space is exact. The decoder of a latent prior stays in float32.

    Args:
        name: one of `PRECISIONS`.
        device: where the network runs.

    Raises:
        ValueError: no such precision.
    """
    if name not in PRECISIONS:
        raise ValueError(f"precision {name!r} is unknown; there are {', '.join(PRECISIONS)}")
    if name == "auto":
        name = "decoder" if device.type == "cpu" and has_bfloat16_units(device) else "float32"
    if name == "float32":
        yield
    elif name == "autocast":
        with torch.autocast(device.type, torch.bfloat16):
            yield
    else:
        before = _decoder_type.set(torch.bfloat16 if name == "decoder" else None)
        try:
            with _Rounding(forward=name == "bfloat16"):
                yield
        finally:
            _decoder_type.reset(before)


def as_decoder_reads(tensor: Tensor) -> Tensor:
    """A tensor (N,c,h,w) or (N,E) that enters the decoder, in the type of the active precision."""
    dtype = _decoder_type.get()
    return tensor if dtype is None else tensor.to(dtype)


class _Rounding(TorchFunctionMode):
    """While active, runs the operations of a frozen network that have weights in bfloat16.

    These are all two-dimensional convolutions, and the linear layers and group normalisations whose input is already
    in bfloat16.
    """

    _rounded = WeakTensorKeyDictionary()

    def __init__(self, forward: bool) -> None:
        super().__init__()
        self._forward = forward

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is F.conv2d and args[1].dtype == torch.float32 and min(args[1].shape[:2]) >= FEWEST_CHANNELS:
            return self._convolution(*args[:5])
        if args and isinstance(args[0], Tensor) and args[0].dtype == torch.bfloat16:
            if func is F.linear:
                return func(args[0], *(None if weight is None else self._round(weight) for weight in args[1:]))
            if func is F.group_norm:
                return self._group_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _convolution(
        self, image: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], padding: tuple[int, int]
    ) -> Tensor:
        rounded = self._round(weight)
        rounded_bias = None if bias is None else self._round(bias)
        exact = not self._forward and image.dtype == torch.float32
        kept = (weight, bias) if exact else (rounded, rounded_bias)
        return _Convolution.apply(image, rounded, *kept, tuple(stride), tuple(padding))

    def _group_norm(self, image: Tensor, num_groups: int, weight: Tensor, bias: Tensor, eps: float, *_: Any) -> Tensor:
        if image.ndim == 4 and image.device.type == "cpu":
            return GroupNorm.apply(image, num_groups, weight, bias, eps)
        return F.group_norm(image, num_groups, self._round(weight), self._round(bias), eps)

    @classmethod
    def _round(cls, weight: Tensor) -> Tensor:
        """A weight or bias in bfloat16, kept as long as the weight itself lives."""
        kept = cls._rounded.get(weight)
        if kept is None or kept.device != weight.device:
            layout = torch.channels_last if weight.ndim == 4 else torch.contiguous_format
            kept = weight.detach().to(torch.bfloat16, memory_format=layout)
            cls._rounded[weight] = kept
        return kept


class _Convolution(torch.autograd.Function):
    """A convolution in bfloat16 of an image in float32 or bfloat16, for a frozen weight.

    If `weight` is in float32 beside the `rounded` one, only the backward pass is in bfloat16.
    """

    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        rounded: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> Tensor:
        ctx.weight, ctx.shape, ctx.stride, ctx.padding = rounded, image.shape, stride, padding
        ctx.type = image.dtype
        return F.conv2d(image.to(weight.dtype), weight, bias, stride, padding).to(image.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        gradient = gradients[0].bfloat16()
        # Only the image's shape is needed, not its values.
        image = torch.empty(ctx.shape, dtype=gradient.dtype, device=gradient.device, memory_format=torch.channels_last)
        geometry = ctx.stride, ctx.padding, (1, 1), False, (0, 0), 1
        image_gradient = torch.ops.aten.convolution_backward(
            gradient, image, ctx.weight, None, *geometry, (True, False, False)
        )[0]
        return image_gradient.to(ctx.type), None, None, None, None, None


class GroupNorm(torch.autograd.Function):
    """torch's group normalisation of images (N,C,H,W), for a frozen weight and bias.

    In bfloat16 and channels_last, torch's backward pass takes several times as long on a CPU as in float32. This
    backward pass takes its two sums from that of batch normalisation, which is vectorised.
    """

    @staticmethod
    def forward(ctx: Any, image: Tensor, groups: int, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        batch, channels, height, width = image.shape
        normalised, mean, deviation = torch.ops.aten.native_group_norm(
            image, weight, bias, batch, channels, height * width, groups, epsilon
        )
        ctx.save_for_backward(image, mean.float(), deviation.float(), weight)
        return normalised

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        """With x' the normalised x: (g w - mean(g w) - x' mean(g w x')) / deviation, means over a group's pixels."""
        image, mean, inverse, weight = ctx.saved_tensors
        channels, groups = image.shape[1], mean.shape[1]
        size = channels // groups  # channels of a group

        def group_mean(sums: Tensor) -> Tensor:
            """(N,C) mean over the pixels of each channel's group, from weighted sums (N,C) over each channel's."""
            pixels = image.shape[2] * image.shape[3]
            means = (weight * sums).unflatten(1, (groups, size)).mean(2) / pixels  # (N,groups)
            return means.repeat_interleave(size, dim=1)

        mean = mean.repeat_interleave(size, dim=1)  # (N,C)
        inverse = inverse.repeat_interleave(size, dim=1)  # (N,C) 1 / deviation
        products, sums = _sums(gradients[0], image, mean, inverse)  # (N,C) each
        slope = -(inverse**2) * group_mean(products)
        offset = -slope * mean - inverse * group_mean(sums)
        offset, slope, factor = (
            coefficient.to(image.dtype)[:, :, None, None] for coefficient in (offset, slope, inverse * weight)
        )
        return torch.addcmul(torch.addcmul(offset, slope, image), factor, gradients[0]), None, None, None, None


def _sums(gradient: Tensor, image: Tensor, mean: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Sums (N,C) over the pixels of each channel: of gradient times normalised image, and of the gradient."""
    ones = mean.new_ones(image.shape[1])
    products, sums = [], []
    for i in range(len(image)):
        _, product, total = torch.ops.aten.native_batch_norm_backward(
            gradient[i : i + 1], image[i : i + 1], ones, None, None, mean[i], inverse[i], True, 0.0, [False, True, True]
        )
        products.append(product)
        sums.append(total)
    return torch.stack(products), torch.stack(sums)
