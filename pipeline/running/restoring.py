"""Restoring single images, whole or in tiles, and the modules that a restorer runs."""

import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from data import images
from models.restorers.contract import Restorer, restore_tiled
from pipeline.settings.training import Restore


def restore_image(restorer: Restorer, image: NDArray[np.uint8], settings: Restore, target: Path) -> float:
    """Write the restored PNG of a uint8 RGB image (H, W, 3). Returns the seconds spent in the restorer."""
    batch = to_batch(restorer, image)
    started = time.perf_counter()
    restored = restore_batch(restorer, batch, settings)[0].cpu()
    seconds = time.perf_counter() - started
    images.write_image(target, images.to_uint8(restored))
    return seconds


def restored_image(restorer: Restorer, image: NDArray[np.uint8], settings: Restore) -> NDArray[np.uint8]:
    """The restored image of a uint8 RGB image (H, W, 3), rounded to 8 bits as its PNG is."""
    with torch.inference_mode():
        return images.to_uint8(restore_batch(restorer, to_batch(restorer, image), settings)[0].cpu())


def to_batch(restorer: Restorer, image: NDArray[np.uint8]) -> torch.Tensor:
    """A uint8 RGB image (H, W, 3) as a batch (1, 3, H, W) in [0, 1], on the restorer's device."""
    return images.to_tensor(image)[None].to(next(restorer.parameters()).device)


def restore_batch(restorer: Restorer, batch: torch.Tensor, settings: Restore) -> torch.Tensor:
    """The restored batch (1, 3, H, W), whole or in tiles."""
    if settings.tile is None:
        return restorer(batch)
    return restore_tiled(restorer, batch, settings.tile, settings.overlap)
