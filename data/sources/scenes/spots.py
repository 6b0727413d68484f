"""Where every sample lies in space, from the plane of the face that is seen there."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.sources.scenes.camera import Camera
from data.sources.scenes.light import Picture
from data.sources.scenes.raster import FaceTable


@dataclass(frozen=True)
class Spots:
    """Face, depth Z and street position of every sample, all (2H + 1, 2W + 1)."""

    face: NDArray[np.intp]
    depth: Picture
    x: Picture
    y: Picture
    z: Picture


def locate(buffer: NDArray[np.int32], table: FaceTable, camera: Camera) -> Spots:
    """Cut every viewing ray with the plane of its face.

    A sample on the outline of a face seen edge-on may miss it by far, so that the depth is kept within the face's own.
    """
    x, y = rays(camera)
    face = buffer.astype(np.intp)
    inverse = np.take(table.plane[0], face) * x
    inverse += np.take(table.plane[1], face) * y[:, None]
    inverse += np.take(table.plane[2], face)
    depth = np.reciprocal(np.maximum(inverse, np.float32(1e-3)))
    np.maximum(depth, np.take(table.nearest, face), out=depth)
    np.minimum(depth, np.take(table.farthest, face), out=depth)
    right, cos, sin = depth * x, np.float32(np.cos(camera.yaw)), np.float32(np.sin(camera.yaw))
    return Spots(
        face=face,
        depth=depth,
        x=(right * cos + depth * sin + np.float32(camera.x)).astype(np.float32, copy=False),
        y=np.float32(camera.eye_height) - depth * y[:, None],
        z=depth * cos - right * sin,
    )


def rays(camera: Camera) -> tuple[Picture, Picture]:
    """X of every sample column, (2W + 1,), and y of every sample row, (2H + 1,), at depth 1."""
    x = (np.arange(2 * camera.width + 1) / 2 - camera.width / 2) / camera.focal
    y = (np.arange(2 * camera.height + 1) / 2 - camera.horizon) / camera.focal
    return x.astype(np.float32), y.astype(np.float32)
