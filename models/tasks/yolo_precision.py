"""Networks of ultralytics that compute in bfloat16 while they train on a CPU."""

from typing import Any

import torch

from ..mixed_precision import channels_last, mixed_precision


def train_in_bfloat16(network: torch.nn.Module) -> None:
    """Let a network of ultralytics compute in bfloat16 on a CPU, where the library trains in float32 only.

    The loss sees float32: in bfloat16 a coordinate is exact to about a pixel.
    """
    network.__class__ = type("BFloat16Model", (_BFloat16, type(network)), {})


class _BFloat16:
    """Mixed into the class of a network."""

    def predict(self, images: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        with mixed_precision("bf16", images.device):
            return _to_float(super().predict(channels_last(images), *arguments, **options))  # type: ignore[misc]


def _to_float(outputs: Any) -> Any:
    """The outputs of a network with all tensors in float32."""
    if isinstance(outputs, torch.Tensor):
        return outputs.float() if outputs.is_floating_point() else outputs
    if isinstance(outputs, dict):
        return {name: _to_float(output) for name, output in outputs.items()}
    if isinstance(outputs, list | tuple):
        return type(outputs)(map(_to_float, outputs))
    return outputs
