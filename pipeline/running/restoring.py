"""Restoring images and splits, whole or in tiles."""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from data import images
from data.dataset import Split
from models.mixed_precision import mixed_precision
from models.restorers import load_restorer
from models.restorers.contract import Restorer, restore_tiled
from pipeline.running.execution import Kind, through_network
from pipeline.running.progress import progress
from pipeline.running.seeds import choose_device
from pipeline.settings.training import Restore

Image = NDArray[np.uint8]  # (H, W, 3) RGB

JOB = 8  # images that are read, restored and written together
BATCH_PIXELS = 2**21  # of all images of a batch on a GPU, so that large images need no more memory than alone
UNFINISHED = "partial-"  # prefix of the file of an image that is being written


def open_restorer(file: Path) -> Restorer:
    """The restorer in a file, on the GPU if there is one, in the memory format in which it is fastest."""
    return load_restorer(file).to(choose_device()).to(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Restored:
    """A restored image, and the seconds that it spent in the restorer."""

    image: Image
    seconds: float


def restore_split(
    load: Callable[[], Restorer],
    degraded: Split,
    settings: Restore,
    out: Path,
    description: str,
    engine: Kind = "local",
) -> list[float]:
    """Write a restored PNG of every image into a folder, unless a killed run has written it.

    Images are read and written while the restorer runs on others.

    Args:
        load: returns the restorer.
        degraded: the split to restore.
        settings: tiles and precision.
        out: the folder. Unfinished files lie beside it.
        description: text of the progress bar.
        engine: `local` or `ray`.

    Returns:
        The seconds that each new image spent in the restorer.
    """
    out.mkdir(exist_ok=True)
    jobs = [degraded.ids[start : start + JOB] for start in range(0, len(degraded.ids), JOB)]
    read_missing = partial(_read_missing, replace(degraded, ids=()), out)
    results = through_network(
        load, read_missing, partial(_restore_named, settings), partial(_write, out), ((job,) for job in jobs), engine
    )
    seconds: list[float] = []
    with progress(len(degraded.ids), description, "image") as bar:
        for job, of_job in zip(jobs, results, strict=True):
            seconds += of_job
            bar.update(len(job))
    return seconds


def _read_missing(degraded: Split, out: Path, image_ids: Sequence[str]) -> dict[str, Image]:
    """The images that are not restored yet, by their ids."""
    return {image_id: degraded.image(image_id) for image_id in image_ids if not (out / f"{image_id}.png").exists()}


def _restore_named(settings: Restore, restorer: Restorer, named: Mapping[str, Image]) -> dict[str, Restored]:
    return dict(zip(named, restore_images(restorer, list(named.values()), settings), strict=True))


def _write(out: Path, named: Mapping[str, Restored]) -> list[float]:
    """Write PNG files, each whole or not at all. Returns the seconds of each image."""
    for image_id, restored in named.items():
        unfinished = out.parent / f"{UNFINISHED}{uuid.uuid4().hex}.png"  # a cluster may run a job twice at once
        images.write_image(unfinished, restored.image)
        unfinished.rename(out / f"{image_id}.png")
    return [restored.seconds for restored in named.values()]


def restored_image(restorer: Restorer, image: Image, settings: Restore) -> Image:
    """The restored image of a uint8 RGB image (H, W, 3), rounded to 8 bits as its PNG is."""
    return restore_images(restorer, [image], settings)[0].image


def restore_images(restorer: Restorer, degraded: Sequence[Image], settings: Restore) -> list[Restored]:
    """The restored images of uint8 RGB images (H, W, 3), in their order.

    On a GPU, images of equal size are one batch. On a CPU they go through the restorer one by one: feature maps of a
    batch would not fit into the processor's caches, which takes longer.
    """
    device = next(restorer.parameters()).device
    results: dict[int, Restored] = {}
    for places in images.same_sizes(degraded):
        height, width = degraded[places[0]].shape[:2]
        size = batch_size(device, (height, width))
        for start in range(0, len(places), size):
            chosen = places[start : start + size]
            results |= zip(chosen, _restore_equal(restorer, [degraded[n] for n in chosen], settings), strict=True)
    return [results[place] for place in range(len(degraded))]


def batch_size(device: torch.device, size: tuple[int, int]) -> int:
    """How many images of (height, width) in pixels are restored at once."""
    return max(1, BATCH_PIXELS // (size[0] * size[1])) if device.type == "cuda" else 1


def _restore_equal(restorer: Restorer, degraded: Sequence[Image], settings: Restore) -> list[Restored]:
    """The restored images of images of one size; each counts the same share of the time."""
    batch = to_batch(restorer, degraded)
    started = time.perf_counter()
    with torch.inference_mode():
        restored = restore_batch(restorer, batch, settings).cpu()
    seconds = (time.perf_counter() - started) / len(degraded)
    return [Restored(images.to_uint8(image), seconds) for image in restored]


def to_batch(restorer: Restorer, degraded: Sequence[Image]) -> torch.Tensor:
    """N uint8 RGB images (H, W, 3) of one size as a batch (N, 3, H, W) in [0, 1], on the restorer's device."""
    batch = torch.stack([images.to_tensor(image) for image in degraded])
    return batch.to(next(restorer.parameters()).device, memory_format=torch.channels_last)


def restore_batch(restorer: Restorer, batch: torch.Tensor, settings: Restore) -> torch.Tensor:
    """The restored batch (N, 3, H, W), whole or in tiles, in float32."""
    with mixed_precision(settings.precision, batch.device):
        if settings.tile is None:
            restored: torch.Tensor = restorer(batch)
        else:
            restored = restore_tiled(restorer, batch, settings.tile, settings.overlap)
    return restored.float()
