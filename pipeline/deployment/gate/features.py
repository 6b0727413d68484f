"""What the gate sees: statistics of the degraded image, and of the network's own output on it. Not a stage."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.tasks.detection_records import SURE

UNSURE = 0.05  # below that confidence a detection says nothing
TOP = 10  # detections
TINY = 1e-8

Image = NDArray[np.uint8]
Features = dict[str, float]


class GateError(ValueError):
    """A gate that cannot be fitted or read; the text says why and what to do."""


def image_features(image: Image) -> Features:
    """Statistics of uint8 RGB (H, W, 3), of images in [0, 1].

    `haze` is the mean of each pixel's darkest channel (after He et al., "Single image haze removal using dark channel
    prior", CVPR 2009); `noise` the standard deviation by Immerkaer, "Fast noise variance estimation", 1996; `entropy`
    that of the grey levels, in bits.
    """
    colour = image.astype(np.float64) / 255
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.float64) / 255
    low, high = np.quantile(grey, [0.05, 0.95])
    most, least = colour.max(axis=2), colour.min(axis=2)
    levels = np.bincount((grey * 255).astype(np.int64).ravel(), minlength=256) / grey.size
    return {
        "brightness": float(grey.mean()),
        "contrast": float(grey.std()),
        "dark": float(low),
        "bright": float(high),
        "haze": float(least.mean()),
        "saturation": float(((most - least) / (most + TINY)).mean()),
        "sharpness": float(np.log(cv2.Laplacian(grey, cv2.CV_64F).var() + TINY)),
        "noise": _noise(grey),
        "entropy": _entropy(levels) / float(np.log(2)),
    }


def output_features(prediction: Any) -> Features:
    """Statistics of a task network's prediction, of whichever task.

    Raises:
        GateError: a prediction of a kind that has no statistics here.
    """
    if isinstance(prediction, np.ndarray):
        return _of_mask(prediction)
    if hasattr(prediction, "scores"):
        return _of_objects(np.asarray(prediction.scores, dtype=np.float64))
    if hasattr(prediction, "score"):
        return {"confidence": float(prediction.score)}
    raise GateError(f"no statistics of a {type(prediction).__name__} are known; add them to {__name__}")


def _of_objects(scores: NDArray[np.float64]) -> Features:
    seen = scores[scores >= UNSURE]
    top = np.sort(seen)[::-1][:TOP]
    doubt = -(seen * np.log(seen + TINY) + (1 - seen) * np.log(1 - seen + TINY))
    return {
        "sure objects": float(np.log1p((seen >= SURE).sum())),
        "unsure objects": float(np.log1p((seen < SURE).sum())),
        "best confidence": float(top[0]) if len(top) else 0.0,
        "mean confidence": float(top.sum()) / TOP,
        "doubt": float(doubt.mean()) if len(seen) else 0.0,
    }


def _of_mask(mask: NDArray[np.integer]) -> Features:
    """`borders` is the share of neighbouring pixels with different classes: a torn mask has many."""
    shares = np.bincount(mask.ravel()) / mask.size
    return {
        "class entropy": _entropy(shares),
        "largest class": float(shares.max()),
        "borders": float(((mask[1:] != mask[:-1]).mean() + (mask[:, 1:] != mask[:, :-1]).mean()) / 2),
    }


def _entropy(shares: NDArray[np.float64]) -> float:
    """In nats."""
    present = shares[shares > 0]
    return float(-(present * np.log(present)).sum())


def _noise(grey: NDArray[np.float64]) -> float:
    kernel = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])
    found = np.abs(cv2.filter2D(grey, cv2.CV_64F, kernel))
    return float(np.sqrt(np.pi / 2) / 6 * found.mean())
