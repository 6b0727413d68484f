"""The precision of a network: float32, or multiplications in bfloat16 where the hardware speeds them up."""

from typing import Literal

import torch

Precision = Literal["auto", "full", "bf16"]
CPU_UNITS = ("avx512_bf16", "amx_bf16")  # instructions that multiply bfloat16


def has_bfloat16_units(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 itself. Others convert to float32 and back, which takes longer."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return device.type == "cpu" and any(capabilities.get(unit, False) for unit in CPU_UNITS)


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether a network multiplies in bfloat16.

    Args:
        precision: "full": never; "bf16": always; "auto": if the device has units for it. The same machine gives the
            same numbers under each; under "auto" a machine of another kind may give others.
        device: where the network runs.
    """
    return precision == "bf16" or (precision == "auto" and has_bfloat16_units(device))


def mixed_precision(precision: str, device: torch.device) -> torch.autocast:
    """A context for the forward pass of a network. Weights, losses and gradients stay in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=uses_bfloat16(precision, device))


def channels_last(images: torch.Tensor) -> torch.Tensor:
    """Images (N,C,H,W) in the memory format in which most convolutional networks are faster."""
    return images.contiguous(memory_format=torch.channels_last)


def mixed_output(network: torch.nn.Module, images: torch.Tensor, precision: str) -> torch.Tensor:
    """The output, in float32, of a network that is trained at some precision, for images (N,C,H,W)."""
    with mixed_precision(precision, images.device):
        output: torch.Tensor = network(channels_last(images))
    return output.float()
