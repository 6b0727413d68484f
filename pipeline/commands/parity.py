"""An exported restorer beside the one it was made of: the same numbers, and how long each takes. Not a stage."""

import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from data import images
from data.dataset import Split
from models.restorers.contract import Restorer
from pipeline.reporting.pictures import evenly

LARGEST_DIFFERENCE = 1e-4  # of images in [0, 1]; a graph that is right for the size it was traced with alone has more
IMAGES = 4
SMALL_SIDE = 33  # pixels; odd, so that every network must extend it
PASSES, WARM_UP = 15, 2

Image = NDArray[np.uint8]


class ParityError(ValueError):
    """An exported restorer that does not give what PyTorch gives."""


@dataclass(frozen=True)
class Parity:
    """The largest difference at one size, in images in [0, 1]."""

    height: int
    width: int
    images: int
    difference: float


@dataclass(frozen=True)
class Latency:
    """Median milliseconds of one pass, measured in turns."""

    height: int
    width: int
    torch_milliseconds: float
    onnx_milliseconds: float
    threads: int
    processor: str


def check_parity(restorer: Restorer, exported: Restorer, split: Split) -> list[Parity]:
    """Compare both on real images at several sizes: whole, cut to odd sizes, small, larger, and two at once.

    Args:
        restorer: with PyTorch, on the CPU, in eval mode.
        exported: the ONNX file; its graph is compared as it is, without the padding of the contract around it.
        split: whose images are taken.

    Raises:
        ParityError: a difference is 1e-4 or more.
    """
    found = []
    for batch in _batches([split.image(id) for id in evenly(split.ids, IMAGES)]):
        with torch.inference_mode():
            difference = (restorer(batch) - exported.network(batch)).abs().max().item()
        height, width = batch.shape[-2:]
        if not difference < LARGEST_DIFFERENCE:
            raise ParityError(
                f"the ONNX file of this {restorer.name} differs from PyTorch by {difference:.2g} on images of "
                f"{width}x{height} pixels ({LARGEST_DIFFERENCE:g} is allowed): its network does not work at every size "
                "as a fixed graph; nothing was written"
            )
        found.append(Parity(height, width, len(batch), difference))
    return found


def measure_latency(restorer: Restorer, exported: Restorer, image: Image) -> Latency:
    """Time both in turns on one image (H, W, 3), whole, with as many threads."""
    batch = images.to_tensor(image)[None]
    seconds: dict[str, list[float]] = {"torch": [], "onnx": []}
    runs: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"torch": restorer, "onnx": exported}
    with torch.inference_mode():
        for _ in range(WARM_UP + PASSES):
            for name, run in runs.items():
                started = time.perf_counter()
                run(batch)
                seconds[name].append(time.perf_counter() - started)
    medians = {name: round(1000 * statistics.median(own[WARM_UP:]), 2) for name, own in seconds.items()}
    processor = platform.processor() or platform.machine()
    height, width = image.shape[:2]
    return Latency(height, width, medians["torch"], medians["onnx"], torch.get_num_threads(), processor)


def _batches(found: list[Image]) -> Iterator[torch.Tensor]:
    """(N, 3, H, W) each."""
    for image in found:
        yield images.to_tensor(image)[None]
    image = found[0]
    height, width = image.shape[:2]
    small = image[: min(height, SMALL_SIDE), : min(width, SMALL_SIDE)]
    odd = image[: 2 * (height // 4) + 1, : 2 * (width // 3) + 1]
    larger = np.pad(image, ((0, height // 2), (0, width // 3), (0, 0)), mode="symmetric")
    for other in (odd, small, larger):
        yield images.to_tensor(other)[None]
    yield torch.stack([images.to_tensor(one) for one in (small, small[::-1])])
