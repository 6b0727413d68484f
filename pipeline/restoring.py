"""One image through a restorer, whole or in tiles. Not a stage."""

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data import images
from models.restorers import Restorer
from models.restorers.tiling import restore_tiled
from pipeline.restorer_params import Restore


def restore_image(restorer: Restorer, image: NDArray[np.uint8], settings: Restore, target: Path) -> float:
    """Write the restored PNG of a uint8 RGB image (H, W, 3); returns the seconds that it spent in the restorer."""
    batch = images.to_tensor(image)[None].to(next(restorer.parameters()).device)
    started = time.perf_counter()
    if settings.tile is None:
        restored = restorer(batch)[0].cpu()
    else:
        restored = restore_tiled(restorer, batch, settings.tile, settings.overlap)[0].cpu()
    seconds = time.perf_counter() - started
    images.write_image(target, images.to_uint8(restored))
    return seconds
