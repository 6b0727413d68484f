"""Fronts of buildings: storeys, windows, shop fronts and doors, painted by position on the wall."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .light import Light, Picture, Spots
from .raster import ALONG, FaceTable


@dataclass(frozen=True)
class FacadeStyles:
    """One row per building front; lengths in metres, colours linear RGB (B, 3)."""

    spacing: Picture  # (B,) from window to window
    storey: Picture  # (B,)
    width: Picture  # (B,) of a window, as a share of the spacing
    height: Picture  # (B,) of a window, as a share of the storey
    shop: NDArray[np.bool_]  # (B,) a glazed ground floor
    top: Picture  # (B,) height of the wall
    trim: Picture  # (B, 3) frames and cornice
    sign: Picture  # (B, 3) the band above the shop
    seed: NDArray[np.uint32]  # (B,)


def draw_styles(rng: np.random.Generator, tops: list[float]) -> FacadeStyles:
    """A style for each building front of the given height."""
    count = len(tops)
    light_trim = rng.random(count)[:, None] < 0.6
    return FacadeStyles(
        spacing=rng.uniform(1.8, 4.0, count).astype(np.float32),
        storey=rng.uniform(2.8, 3.8, count).astype(np.float32),
        width=rng.uniform(0.3, 0.75, count).astype(np.float32),
        height=rng.uniform(0.4, 0.7, count).astype(np.float32),
        shop=rng.random(count) < 0.45,
        top=np.array(tops, np.float32),
        trim=np.where(light_trim, rng.uniform(0.5, 0.8, (count, 3)), rng.uniform(0.03, 0.15, (count, 3))).astype(
            np.float32
        ),
        sign=(rng.random((count, 3)) ** 2.2 * 0.8).astype(np.float32),
        seed=rng.integers(1, 2**31, count).astype(np.uint32),
    )


def paint_facades(reflectance: Picture, spots: Spots, table: FaceTable, styles: FacadeStyles, light: Light) -> None:
    """Paint windows, frames and shop fronts over the wall's `reflectance` (3, 2H + 1, 2W + 1), in place."""
    here = np.flatnonzero(np.take(table.facade >= 0, spots.face))
    face = np.take(spots.face, here)
    style, up = table.facade[face], np.take(spots.y, here)
    u = np.where(table.aspect[face] == ALONG, np.take(spots.z, here), np.take(spots.x, here)) / styles.spacing[style]
    v = up / styles.storey[style]
    column, row = np.floor(u).astype(np.int32), np.floor(v).astype(np.int32)
    u, v = np.abs(u - column - 0.5) * 2, v - row
    chance = _chance(column, row, styles.seed[style])
    shop = (row == 0) & styles.shop[style]
    wide = np.where(shop, np.float32(0.9), styles.width[style])
    low = np.where(shop, np.float32(0.12), np.float32(0.25))
    door = (row == 0) & (chance < 0.22)
    low = np.where(door, np.float32(0.0), low)
    high = np.where(shop, np.float32(0.68), low + styles.height[style])
    high = np.where(door, np.float32(0.7), high)
    free = (up < styles.top[style] - 0.7) & ((chance > 0.06) | (row == 0))
    frame = free & (u < wide + 0.08) & (v > low - 0.04) & (v < high + 0.04)
    glass = free & (u < wide) & (v > low) & (v < high) & ((u > 0.06) | (chance < 0.5) | shop)
    band = shop & (v > 0.76) & (v < 0.95)
    cornice = up > styles.top[style] - 0.35
    frame |= cornice
    flat = reflectance.reshape(3, -1)
    flat[:, here[frame]] = styles.trim[style[frame]].T
    flat[:, here[band]] = styles.sign[style[band]].T
    flat[:, here[glass]] = _glass(chance[glass], v[glass], door[glass], light)


def _glass(chance: Picture, v: Picture, door: NDArray[np.bool_], light: Light) -> Picture:
    """Panes (3, N): dark rooms, a share with pale curtains, some that mirror the sky; doors are wood or paint."""
    tone = 0.02 + 0.06 * v + 0.3 * (chance > 0.8) * (v > 0.5)
    pane = tone * light.haze[:, None]
    mirror = (chance > 0.3) & (chance < 0.45)
    pane[:, mirror] = 0.25 * light.zenith[:, None] + 0.05
    own = chance[door]
    pane[:, door] = 0.4 * np.stack([0.03 + own, 0.3 - own, 0.5 * np.abs(0.12 - own)])
    return pane.astype(np.float32)


def _chance(column: NDArray[np.int32], row: NDArray[np.int32], seed: NDArray[np.uint32]) -> Picture:
    """A fixed random number in [0, 1) for each window of each building (an integer hash)."""
    mixed = seed ^ column.astype(np.uint32) * np.uint32(73856093) ^ row.astype(np.uint32) * np.uint32(19349663)
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(2246822519)
    mixed ^= mixed >> np.uint32(13)
    return (mixed & np.uint32(0xFFFF)).astype(np.float32) / np.float32(65536)
