"""Colour of every sample, worked out after it is known which face is seen there. Colours are planar, (3, ...)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .camera import Camera
from .facades import FacadeStyles, paint_facades
from .light import Light, Picture, Spots, rays, sky_colour
from .raster import ALONG, GROUND, SKY_FACE, FaceTable
from .textures import load_atlas


@dataclass(frozen=True)
class Walls:
    """What throws the long shadows: a wall on either side of the street, as high as its buildings.

    `offset` is the distance of the left and right wall from the middle; `height[side, bin]` in metres, with one bin
    per metre along the street, from `start` on.
    """

    offset: tuple[float, float]
    height: NDArray[np.float32]
    start: float


def shade(
    spots: Spots,
    table: FaceTable,
    styles: FacadeStyles,
    walls: Walls,
    shadow: Picture,
    contact: Picture,
    camera: Camera,
    light: Light,
) -> Picture:
    """Linear RGB of every sample, (3, 2H + 1, 2W + 1). `shadow` and `contact` are the buffers of the ground."""
    pattern = _texture(spots, table, camera)
    picture = np.stack([np.take(colour, spots.face) for colour in table.colour])
    picture *= pattern
    paint_facades(picture, spots, table, styles, light)
    sun, dome = _exposure(spots, table, walls, shadow, contact, light)
    for channel in range(3):
        picture[channel] *= sun * np.float32(light.sunlight[channel]) + dome * np.float32(light.skylight[channel])
    x, y = rays(camera)
    row, column = np.nonzero(spots.face == SKY_FACE)
    picture[:, row, column] = sky_colour(light, x[column], y[row], camera.rotation @ light.sun)
    return picture


def _texture(spots: Spots, table: FaceTable, camera: Camera) -> Picture:
    """Brightness factor of the surface texture at every sample."""
    u = np.where(np.take(table.aspect == ALONG, spots.face), spots.z, spots.x)
    v = np.where(np.take(table.aspect == GROUND, spots.face), spots.z, spots.y)
    slant = np.sqrt(np.maximum(spots.depth * np.take(1 / table.distance, spots.face), 1))
    footprint = spots.depth * slant * np.float32(0.5 / camera.focal)
    return load_atlas().lookup(np.take(table.texture, spots.face), u, v, footprint)


def _exposure(
    spots: Spots, table: FaceTable, walls: Walls, shadow: Picture, contact: Picture, light: Light
) -> tuple[Picture, Picture]:
    """Shares of sunlight (Lambert's cosine) and of skylight (a half dome) that reach every sample."""
    cosine = np.maximum(table.normal @ light.sun, 0).astype(np.float32)
    dome = (0.65 + 0.35 * table.normal[:, 1]).astype(np.float32)
    level = np.take(table.ground.astype(np.float32), spots.face)
    sun = np.take(cosine, spots.face)
    sun *= 1 - level * shadow
    sun[_wall_shadow(spots, walls, light)] = 0
    return sun, np.take(dome, spots.face) * (1 - level * contact)


def _wall_shadow(spots: Spots, walls: Walls, light: Light) -> NDArray[np.bool_]:
    """Where the street's wall on the sun's side hides the sun."""
    side = int(light.sun[0] > 0)
    across = np.float32(abs(light.sun[0]) + 1e-3)
    run = (np.float32(walls.offset[side]) - np.float32(2 * side - 1) * spots.x) / across
    along = spots.z + run * np.float32(light.sun[2]) - np.float32(walls.start)
    bins = np.clip(along, 0, walls.height.shape[1] - 1).astype(np.intp)
    hidden: NDArray[np.bool_] = spots.y + run * np.float32(light.sun[1]) < np.take(walls.height[side], bins)
    return hidden & (run > 0)
