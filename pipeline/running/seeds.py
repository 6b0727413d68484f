"""Seeds and deterministic kernels: the same random numbers in every process."""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def choose_device() -> "torch.device":
    """The GPU if there is one, or the CPU. Deterministic kernels are switched on."""
    import torch

    torch.set_deterministic_debug_mode("warn")  # as use_deterministic_algorithms, which also imports torch's compiler
    # This mode also fills each new tensor with NaN before it is written, for operations that read what they never
    # wrote. It takes a tenth of a training step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seed_for(*parts: int | str) -> int:
    """A 63-bit seed from the run's seed and the name of its use. Seeds of different uses are independent."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
