"""Linear light: the sRGB transfer function, and photon noise."""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from .effects import Image, Rng

_STEPS = 1 << 16
_CELLS = 512
_FEW = 50


def decode(encoded: ArrayLike) -> NDArray[np.float64]:
    """Convert encoded sRGB values in [0, 1] to linear light in [0, 1] (IEC 61966-2-1)."""
    value = np.asarray(encoded, dtype=np.float64)
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def encode(linear: ArrayLike) -> NDArray[np.float64]:
    """Convert linear light in [0, 1] to sRGB values in [0, 1]; the inverse of `decode`."""
    value = np.asarray(linear, dtype=np.float64)
    return np.where(value <= 0.0031308, value * 12.92, 1.055 * value ** (1 / 2.4) - 0.055)


@lru_cache(maxsize=1)
def level_light() -> NDArray[np.float32]:
    """Linear light in [0, 1] of each 8-bit level, (256,)."""
    table = decode(np.arange(256) / 255).astype(np.float32)
    table.setflags(write=False)
    return table


def to_light(image: Image) -> NDArray[np.float32]:
    """Convert 8-bit sRGB (H, W, 3) to linear light in [0, 1], float32 (H, W, 3)."""
    return np.asarray(cv2.LUT(image, level_light()), dtype=np.float32)


def in_all_channels(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Repeat a plane (H, W) as (H, W, 3), which multiplies much faster than a broadcast last axis."""
    return np.asarray(cv2.cvtColor(plane, cv2.COLOR_GRAY2RGB), dtype=np.float32)


@lru_cache(maxsize=1)
def _codes() -> NDArray[np.uint8]:
    table = np.rint(encode(np.arange(_STEPS) / (_STEPS - 1)) * 255).astype(np.uint8)
    table.setflags(write=False)
    return table


def to_codes(linear: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Convert linear light, clipped to [0, 1], to 8-bit sRGB. Overwrites its argument.

    Uses a table of 2^16 steps of light. The error before rounding is at most 0.03 of a level.
    """
    np.clip(linear, 0, 1, out=linear)
    linear *= _STEPS - 1
    linear += 0.5
    return _codes().take(linear.astype(np.uint16), mode="clip")  # OpenCV 4 has no 16-bit lookup tables


def round_to_uint8(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Round and clip values to 0..255, uint8. Overwrites its argument."""
    np.clip(values, 0, 255, out=values)
    values += 0.5
    return values.astype(np.uint8)


def count_photons(levels: NDArray[np.integer], rates: NDArray[np.floating], rng: Rng) -> NDArray[np.uint16]:
    """Draw Poisson counts for an array of indices into a short table of rates.

    Tabulating each rate once is faster than `rng.poisson` with one rate for each pixel. Rates up to 50 use inversion
    of the cumulative distribution, exact to the 24 bits of a float32 draw. Larger rates use Cornish and Fisher's
    expansion of a normal draw, which keeps mean, variance and skewness.

    Args:
        levels: any shape, indices into `rates`.
        rates: (L,) expected counts, at most 60,000.
        rng: the stream to draw from.

    Returns:
        counts of the shape of `levels`.
    """
    expected = rates.astype(np.float64)
    few = expected <= _FEW
    if few.all():
        return _invert(levels, expected, rng)
    counts, flat, chosen = np.empty(levels.size, dtype=np.uint16), levels.reshape(-1), few.take(levels).reshape(-1)
    at = np.flatnonzero(chosen)
    counts[at] = _invert(flat.take(at), np.where(few, expected, 0.0), rng)
    at = np.flatnonzero(~chosen)
    counts[at] = _expand(flat.take(at), expected, rng)
    return counts.reshape(levels.shape)


def _invert(levels: NDArray[np.integer], rates: NDArray[np.float64], rng: Rng) -> NDArray[np.uint16]:
    """Counts by inversion of the cumulative distribution; most draws fall into a cell with a single count."""
    cumulative = _cumulative(rates)
    edges = _counts_at_edges(cumulative)
    cells = 2 * edges[:, :-1] + (edges[:, 1:] > edges[:, :-1])  # the last bit: more than one count in the cell
    chance = rng.random(levels.shape, dtype=np.float32)
    at = levels.astype(np.int32) * _CELLS
    at += (chance * _CELLS).astype(np.int32)
    drawn: NDArray[np.uint16] = cells.reshape(-1).take(at)
    counts = (drawn >> 1).astype(np.uint16, copy=False)
    flat, unsure = counts.reshape(-1), np.flatnonzero(drawn & 1)
    chance, levels = chance.reshape(-1)[unsure], levels.reshape(-1)[unsure]
    while unsure.size:
        above = cumulative[levels, flat[unsure]] <= chance
        unsure, chance, levels = unsure[above], chance[above], levels[above]
        flat[unsure] += 1
    return counts


def _expand(levels: NDArray[np.integer], rates: NDArray[np.float64], rng: Rng) -> NDArray[np.uint16]:
    """Counts by Cornish and Fisher's expansion: rate + sqrt(rate) z + (z^2 - 1) / 6, rounded."""
    normal = rng.standard_normal(levels.shape, dtype=np.float32)
    counts = normal / np.float32(6)
    counts += np.sqrt(rates).astype(np.float32).take(levels)
    counts *= normal
    counts += (rates + 0.5 - 1 / 6).astype(np.float32).take(levels)
    return counts.astype(np.uint16)


def _cumulative(rates: NDArray[np.float64]) -> NDArray[np.float32]:
    """P(count <= k) of each rate, (L, K). The last column is 2, so that every search ends."""
    counts = np.arange(int(rates.max() + 8 * np.sqrt(rates.max())) + 16, dtype=np.float64)
    safe = np.maximum(rates, 1e-12)[:, None]
    chances = np.exp(counts * np.log(safe) - safe - gammaln(counts + 1))
    table = np.cumsum(chances, axis=1, out=chances).astype(np.float32)
    table[:, -1] = 2
    return table


def _counts_at_edges(cumulative: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The count for a draw exactly at each edge of the cells, (L, cells + 1)."""
    bins = np.minimum(np.ceil(cumulative * np.float32(_CELLS)), _CELLS + 1).astype(np.intp)
    bins += np.arange(len(cumulative))[:, None] * (_CELLS + 2)
    filled = np.bincount(bins.reshape(-1), minlength=len(cumulative) * (_CELLS + 2))
    return np.cumsum(filled.reshape(-1, _CELLS + 2)[:, :-1], axis=1).astype(np.uint16)
