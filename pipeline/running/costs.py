"""Operations and peak memory of one pass through a restorer."""

import ctypes
import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

CLEAR_REFS = Path("/proc/self/clear_refs")  # on Linux, writing 5 resets the peak of resident memory
STATUS = Path("/proc/self/status")


class _Operations(TorchDispatchMode):
    """Adds up the operations of all calls, by torch's formulas."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or torch imports its compiler for the first call, which takes seconds

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        formula = flop_registry.get(func.overloadpacket)
        if formula is None:
            with self:  # an operation that consists of others, such as a linear layer
                parts = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if parts is NotImplemented else parts
        output = func(*args, **kwargs)
        self.total += formula(*args, **kwargs, out_val=output)
        return output


def gflops(run: Callable[[], object]) -> float:
    """Billions of floating-point operations of a call. A multiply-add counts as two.

    Convolutions, matrix products and attention count. Element-wise operations, a small part, do not.
    """
    with torch.no_grad(), _Operations() as operations:
        run()
    return operations.total / 1e9


def peak_memory_mib(run: Callable[[], object], device: torch.device) -> float | None:
    """Peak memory of a call in MiB, above the memory in use before it (weights, input).

    On a GPU: memory that torch allocated. On a CPU: the process's resident memory, with the libraries' buffers; None on
    systems other than Linux, which cannot reset the peak.
    """
    gc.collect()
    with torch.inference_mode():
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            run()
            return (torch.cuda.max_memory_allocated(device) - before) / 2**20
        if not _reset_peak():
            return None
        resident = _resident("VmRSS")
        run()
        return max(0.0, _resident("VmHWM") - resident) / 2**10


def _reset_peak() -> bool:
    """Return freed memory to the system, so that it counts when it is used again, and reset the peak."""
    library = ctypes.CDLL(ctypes.util.find_library("c"))
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
    try:
        CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return True


def _resident(field: str) -> float:
    """A field of the process's status, in KiB."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return float(line.split()[1])
