"""Buildings along the street and across its end, their fronts, and the skyline behind them.

Windows, shop fronts and doors are not faces: `paint_facades` paints them by position on the wall.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .camera import ALONG, Camera, FaceTable, Picture, Spots
from .street import BEHIND, FAR, Street, sign_of
from .surfaces import BRICK, LEAVES, PLASTER, Body, Colour, Face, Points, disc, hsv

DEPTH = 12.0  # metres; depth of a building away from the street
SKYLINE = 245.0  # metres; depth of the skyline


@dataclass(frozen=True)
class Walls:
    """Walls on both sides of the street, as high as the buildings, which cast long shadows.

    `offset` is the distance of the left and right wall from the middle in metres. `height[side, bin]` is in metres,
    with one bin per metre along the street, from `start` on.
    """

    offset: tuple[float, float]
    height: NDArray[np.float32]
    start: float


@dataclass(frozen=True)
class FacadeStyles:
    """Styles of B building fronts; lengths in metres, colours linear RGB."""

    spacing: Picture  # (B,) from window to window
    storey: Picture  # (B,)
    width: Picture  # (B,) of a window, as a share of the spacing
    height: Picture  # (B,) of a window, as a share of the storey
    shop: NDArray[np.bool_]  # (B,) a glazed ground floor
    top: Picture  # (B,) height of the wall
    trim: Picture  # (B, 3) frames and cornice
    sign: Picture  # (B, 3) the band above the shop
    seed: NDArray[np.uint32]  # (B,)


def build_buildings(
    rng: np.random.Generator, street: Street, camera: Camera, labels: dict[str, int]
) -> tuple[list[Body], FacadeStyles, Walls]:
    """Draw buildings and skyline: bodies in drawing order, styles of the fronts, and walls for long shadows."""
    heights = np.zeros((2, int(FAR - BEHIND) + 1), np.float32)
    fronts: list[tuple[float, list[Face]]] = []
    tops: list[float] = []
    for side in (0, 1):
        for low, high in _lots(rng, street, side):
            top = float(rng.uniform(6, 19) if street.frontage[side] == "terrace" else rng.uniform(4.5, 9))
            heights[side, int(low - BEHIND) : int(high - BEHIND) + 1] = top
            fronts.append((low, _house(rng, street, side, (low, high), top, len(tops))))
            tops.append(top)
    fronts.sort(key=lambda front: -front[0])
    bodies = [_skyline(rng, camera, labels["vegetation"], hills=True)]
    bodies.append(_skyline(rng, camera, labels["building"], hills=False))
    if street.end < FAR:
        top = float(rng.uniform(7, 20))
        bodies.append(Body(labels["building"], _closing_block(rng, street, top, len(tops)), shadow=False))
        tops.append(top)
    bodies += [Body(labels["building"], faces, shadow=False) for _, faces in fronts]
    walls = Walls((street.wall(0), street.wall(1)), heights, BEHIND)
    return bodies, draw_styles(rng, tops or [1.0]), walls


def _lots(rng: np.random.Generator, street: Street, side: int) -> list[tuple[float, float]]:
    """Start and end along the street, in metres, of each building of a side."""
    kind = street.frontage[side]
    if kind == "park":
        return []
    lots, start = [], BEHIND + rng.uniform(0, 8)
    while start < street.end - 8:
        end = min(start + rng.uniform(7, 18), street.end - 0.5)
        gap = rng.uniform(3, 12) if kind == "detached" else 0.0
        blocked = street.crossing is not None and _overlap(start, end, street.crossing, street.crossing_half + 2)
        if blocked and street.crossing is not None:
            start, end = _around(start, street.crossing, street.crossing_half + 2)
        if end - start > 3:
            lots.append((float(start), float(end)))
        start = end + gap + (2 * street.crossing_half + 4 if blocked and end < (street.crossing or 0) else 0)
    return lots


def _overlap(start: float, end: float, middle: float, half: float) -> bool:
    return start < middle + half and end > middle - half


def _around(start: float, middle: float, half: float) -> tuple[float, float]:
    """The part of a lot before a crossing, or an empty lot if there is none."""
    return (start, middle - half) if start < middle - half else (middle + half, middle + half)


def _wall_paint(rng: np.random.Generator) -> tuple[Colour, int]:
    if rng.random() < 0.45:
        return hsv(rng.uniform(0.0, 0.09), rng.uniform(0.25, 0.65), rng.uniform(0.4, 0.75)), BRICK
    hue = rng.uniform(0.02, 0.18) + 0.5 * (rng.random() < 0.2)
    return hsv(hue, rng.uniform(0, 0.4), rng.uniform(0.5, 0.95)), PLASTER


def _house(
    rng: np.random.Generator, street: Street, side: int, lot: tuple[float, float], top: float, style: int
) -> list[Face]:
    """Faces of a house: end wall, roof, front, and ornaments on it."""
    sign, (low, high) = sign_of(side), lot
    near, back = sign * street.wall(side), sign * (street.wall(side) + DEPTH)
    ridge = (near + back) / 2
    pitched = rng.random() < 0.6
    peak = top + (rng.uniform(2, 5) if pitched else 0.0)
    colour, texture = _wall_paint(rng)
    tiles = hsv(rng.uniform(0.0, 0.08), rng.uniform(0.1, 0.6), rng.uniform(0.25, 0.55))
    gable = np.array([[near, 0, low], [back, 0, low], [back, top, low], [ridge, peak, low], [near, top, low]])
    front = np.array([[near, 0, low], [near, 0, high], [near, top, high], [near, top, low]])
    faces = [Face(gable, colour, texture)] if low > 0.5 else []
    if pitched:
        roof = np.array([[near, top, low], [near, top, high], [ridge, peak, high], [ridge, peak, low]])
        faces.append(Face(roof, tiles, BRICK))
    faces.append(Face(front, colour, texture, style))
    return faces + _ornaments(rng, near - sign * 0.05, lot)


def _ornaments(rng: np.random.Generator, x: float, lot: tuple[float, float]) -> list[Face]:
    """Posters and emblems on the wall, which resemble traffic signs but are not labelled as such."""
    faces = []
    for _ in range(int(rng.integers(0, 4))):
        z, y, size = rng.uniform(lot[0] + 0.8, lot[1] - 0.8), rng.uniform(1.2, 3.6), rng.uniform(0.25, 0.6)
        shape = disc(size) if rng.random() < 0.4 else size * np.array([[-1, -1.3], [1, -1.3], [1, 1.3], [-1, 1.3]])
        colour = hsv(rng.random(), rng.uniform(0.2, 0.9), rng.uniform(0.3, 0.95))
        middle = hsv(rng.random(), rng.uniform(0.0, 0.9), rng.uniform(0.3, 0.95))
        for part, paint in ((shape, colour), (shape * rng.uniform(0.4, 0.75), middle)):
            faces.append(Face(np.column_stack([np.full(len(part), x), part[:, 1] + y, part[:, 0] + z]), paint))
    return faces


def _closing_block(rng: np.random.Generator, street: Street, top: float, style: int) -> list[Face]:
    z, half = street.end, 45.0
    colour, texture = _wall_paint(rng)
    front = np.array([[-half, 0, z], [half, 0, z], [half, top, z], [-half, top, z]])
    tiles = hsv(rng.uniform(0.0, 0.08), rng.uniform(0.1, 0.6), rng.uniform(0.25, 0.55))
    roof = np.array([[-half, top, z], [half, top, z], [half, top + 3, z + 6], [-half, top + 3, z + 6]])
    return [Face(roof, tiles, BRICK), Face(front, colour, texture, style)]


def _skyline(rng: np.random.Generator, camera: Camera, label: int, hills: bool) -> Body:
    """Wooded hills or distant blocks, upright and facing the camera."""
    reach = 1.1 * SKYLINE * camera.width / (2 * camera.focal)
    depth = SKYLINE if hills else SKYLINE - 8
    if hills:
        across = np.linspace(-reach, reach, 60)
        rise = 5 + rng.uniform(0, 14) * (1 + np.sin(across / rng.uniform(25, 70) + rng.uniform(0, 6)))
        rise = rise + rng.uniform(0, 2.5, len(across))
        shape = np.column_stack([np.r_[across, reach, -reach], np.r_[rise, 0, 0]])
        return Body(label, [Face(_upright(shape, camera, depth), (0.07, 0.12, 0.05), LEAVES)], shadow=False)
    faces = []
    for _ in range(int(rng.integers(0, 9))):
        middle, half, top = rng.uniform(-reach, reach), rng.uniform(4, 22), rng.uniform(8, 40)
        left, right = middle - half, middle + half
        block = np.array([[left, 0], [right, 0], [right, top], [left, top]])
        tone = hsv(rng.uniform(0, 0.7), rng.uniform(0, 0.15), rng.uniform(0.4, 0.7))
        faces.append(Face(_upright(block, camera, depth), tone, PLASTER))
    return Body(label, faces, shadow=False)


def _upright(shape: Points, camera: Camera, depth: float) -> Points:
    """Convert a shape (K, 2) of (across, up) in metres to a face at one depth, street points (K, 3)."""
    eyed = np.column_stack([shape[:, 0], camera.eye_height - shape[:, 1], np.full(len(shape), depth)])
    return eyed @ camera.rotation + camera.eye


def draw_styles(rng: np.random.Generator, tops: list[float]) -> FacadeStyles:
    """Draw a style for each building front; `tops` are heights of the walls in metres."""
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


def paint_facades(
    reflectance: Picture,
    spots: Spots,
    table: FaceTable,
    styles: FacadeStyles,
    haze: NDArray[np.float64],
    zenith: NDArray[np.float64],
) -> None:
    """Paint windows, frames and shop fronts over the wall's `reflectance` (3, 2H + 1, 2W + 1), in place.

    `haze` and `zenith` are the sky's colours at the horizon and overhead, linear RGB (3,): window panes mirror them.
    """
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
    flat[:, here[glass]] = _glass(chance[glass], v[glass], door[glass], haze, zenith)


def _glass(
    chance: Picture, v: Picture, door: NDArray[np.bool_], haze: NDArray[np.float64], zenith: NDArray[np.float64]
) -> Picture:
    """Colours of panes (3, N): dark rooms, some with pale curtains, some that mirror the sky; doors are opaque."""
    tone = 0.02 + 0.06 * v + 0.3 * (chance > 0.8) * (v > 0.5)
    pane = tone * haze[:, None]
    mirror = (chance > 0.3) & (chance < 0.45)
    pane[:, mirror] = 0.25 * zenith[:, None] + 0.05
    hue = chance[door]
    pane[:, door] = 0.4 * np.stack([0.03 + hue, 0.3 - hue, 0.5 * np.abs(0.12 - hue)])
    return pane.astype(np.float32)


def _chance(column: NDArray[np.int32], row: NDArray[np.int32], seed: NDArray[np.uint32]) -> Picture:
    """A fixed random number in [0, 1) for each window of each building (an integer hash)."""
    mixed = seed ^ column.astype(np.uint32) * np.uint32(73856093) ^ row.astype(np.uint32) * np.uint32(19349663)
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(2246822519)
    mixed ^= mixed >> np.uint32(13)
    return (mixed & np.uint32(0xFFFF)).astype(np.float32) / np.float32(65536)
