"""A pin-hole camera and what it sees: projection, and buffers of faces, depth, positions and shadows.

Street frame, metres: x to the right across the street (0 in its middle), y up (0 on the ground), z along it.
Camera frame, metres: X right, Y down, Z forward (the depth). The optical axis is level, so that a ground point
at row v lies at depth f·h / (v − horizon); pixel j covers [j, j + 1), its centre is j + 0.5.

Samples lie half a pixel apart and start on the picture's edge: (2H + 1, 2W + 1) of them. Those with two odd indices
are the pixel centres, where class, instance and depth are read; colour is averaged over the neighbours.
OpenCV also fills the samples that an outline touches, so that an edge may be up to a quarter pixel too far outside.
"""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from .surfaces import Body, Points

NEAR = 0.4  # metres; nothing closer than this is drawn
SHIFT = 4  # fractional bits of OpenCV's fixed-point corners
LIMIT = float(2**14)  # samples; corners farther outside are clipped
SKY_LABEL = 0  # the sky's segmentation index
SKY_DEPTH = 255.99  # metres; also the largest depth of anything else
SKY_FACE = 0  # the sky's row in the face table
GROUND, ALONG, ACROSS = range(3)  # nearest orientation of a face: level, a wall along the street, or a wall across it

Picture = NDArray[np.float32]


@dataclass(frozen=True)
class Camera:
    """A level camera.

    `focal` and `horizon` (a row) are in pixels, `x` and `eye_height` in metres, and `yaw` in radians to the right.
    """

    width: int
    height: int
    focal: float
    horizon: float
    x: float
    eye_height: float
    yaw: float

    @property
    def eye(self) -> NDArray[np.float64]:
        """The optical centre in the street frame, (3,)."""
        return np.array([self.x, self.eye_height, 0.0])

    @cached_property
    def rotation(self) -> NDArray[np.float64]:
        """Rotation matrix from street to camera directions, (3, 3)."""
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        return np.array([[cos, 0.0, -sin], [0.0, -1.0, 0.0], [sin, 0.0, cos]])

    def to_camera(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert street points (..., 3) to camera points (..., 3)."""
        return (points - self.eye) @ self.rotation.T

    def project(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Project camera points (..., 3) with Z > 0 to pixel coordinates (..., 2)."""
        pixels = self.focal * points[..., :2] / points[..., 2:]
        return pixels + np.array([self.width / 2, self.horizon])

    def street_position(self, column: float, depth: float) -> tuple[float, float]:
        """(x, z) in metres of the street point seen in a pixel column at a depth in metres."""
        right = (column - self.width / 2) / self.focal * depth
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        return float(self.x + right * cos + depth * sin), float(depth * cos - right * sin)


def clip_near(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cut a polygon of camera points (K, 3) at Z = NEAR (Sutherland and Hodgman 1974); empty if all of it is nearer."""
    kept = []
    for start, end in zip(points, np.roll(points, -1, axis=0), strict=True):
        if start[2] >= NEAR:
            kept.append(start)
        if (start[2] >= NEAR) != (end[2] >= NEAR):
            kept.append(start + (end - start) * (NEAR - start[2]) / (end[2] - start[2]))
    return np.array(kept).reshape(-1, 3)


@dataclass(frozen=True)
class FaceTable:
    """One row per face, row 0 is the sky. Planes give the inverse depth: 1 / Z = plane · (x, y, 1)."""

    plane: NDArray[np.float32]  # (3, F)
    distance: NDArray[np.float32]  # (F,) metres from the eye to the plane
    nearest: NDArray[np.float32]  # (F,) least depth Z of the face
    farthest: NDArray[np.float32]  # (F,) its greatest
    normal: NDArray[np.float64]  # (F, 3) street frame, towards the eye
    aspect: NDArray[np.int32]  # (F,) GROUND, ALONG or ACROSS
    ground: NDArray[np.bool_]  # (F,) at height 0, where shadows of bodies fall
    colour: NDArray[np.float32]  # (3, F)
    texture: NDArray[np.intp]  # (F,)
    facade: NDArray[np.intp]  # (F,) -1 = none
    label: NDArray[np.uint8]  # (F,) segmentation index
    instance: NDArray[np.int32]  # (F,) 0 = none


def tabulate(bodies: list[Body], camera: Camera) -> FaceTable:
    """Collect the faces of all bodies, in drawing order. Countable bodies get the instances 1, 2, ..."""
    faces = [face for body in bodies for face in body.faces]
    sizes = [len(body.faces) for body in bodies]
    number = np.cumsum([body.countable for body in bodies]) * [body.countable for body in bodies]
    corners = np.array([face.vertices[[0, len(face.vertices) // 3, 2 * len(face.vertices) // 3]] for face in faces])
    eyed = camera.to_camera(corners)
    normal = np.cross(eyed[:, 1] - eyed[:, 0], eyed[:, 2] - eyed[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    distance = np.einsum("ij,ij->i", normal, eyed[:, 0])
    distance = np.where(np.abs(distance) < 1e-6, 1e-6, distance)
    street_normal = (-np.sign(distance)[:, None] * normal) @ camera.rotation
    nearest, farthest = _depth_range([face.vertices for face in faces], camera)
    aspect = np.array([ALONG, GROUND, ACROSS])[np.abs(street_normal).argmax(axis=1)]
    sky = np.zeros((1, 3))
    return FaceTable(
        plane=np.ascontiguousarray(np.vstack([sky, normal / distance[:, None]]).T, np.float32),
        distance=np.concatenate([[1.0], np.abs(distance)]).astype(np.float32),
        nearest=np.concatenate([[SKY_DEPTH], nearest]).astype(np.float32),
        farthest=np.concatenate([[SKY_DEPTH], farthest]).astype(np.float32),
        normal=np.vstack([sky, street_normal]),
        aspect=np.concatenate([[ACROSS], aspect]).astype(np.int32),
        ground=np.concatenate([[False], np.abs(corners[:, :, 1]).max(axis=1) < 1e-6]),
        colour=np.ascontiguousarray(np.vstack([sky, [face.colour for face in faces]]).T, np.float32),
        texture=np.array([0, *(face.texture for face in faces)], np.intp),
        facade=np.array([-1, *(face.facade for face in faces)], np.intp),
        label=np.array([SKY_LABEL, *np.repeat([body.label for body in bodies], sizes)], np.uint8),
        instance=np.array([0, *np.repeat(number, sizes)], np.int32),
    )


def face_buffer(bodies: list[Body], camera: Camera) -> NDArray[np.int32]:
    """The row in the face table of the face seen at every sample, (2H + 1, 2W + 1)."""
    buffer = np.full((2 * camera.height + 1, 2 * camera.width + 1), SKY_FACE, np.int32)
    polygons = [face.vertices for body in bodies for face in body.faces]
    for row, corners in enumerate(_to_samples(polygons, camera), start=1):
        if len(corners):
            cv2.fillPoly(buffer, [corners], row, cv2.LINE_8, SHIFT)
    return buffer


def shadow_buffer(bodies: list[Body], camera: Camera, sun: Points) -> NDArray[np.float32]:
    """Share of sunlight in [0, 1] that bodies block from the *ground* at every sample, (2H + 1, 2W + 1).

    `sun` is the unit direction towards the sun in the street frame; its height must be above 0.
    """
    buffer = np.zeros((2 * camera.height + 1, 2 * camera.width + 1), np.uint8)
    polygons = [face.vertices for body in bodies if body.shadow for face in body.faces]
    cast = [corners - sun * (corners[:, 1:2] / sun[1]) for corners in polygons]
    for corners in _to_samples(cast, camera):
        if len(corners):
            cv2.fillPoly(buffer, [corners], 255, cv2.LINE_8, SHIFT)
    return cv2.blur(buffer, (3, 3)).astype(np.float32) / np.float32(255)


def contact_buffer(bodies: list[Body], camera: Camera) -> NDArray[np.float32]:
    """Share of sky light in [0, 1] that bodies block from the ground right below them, (2H + 1, 2W + 1)."""
    buffer = np.zeros((2 * camera.height + 1, 2 * camera.width + 1), np.uint8)
    polygons = []
    for body in bodies:
        if body.shadow:
            x0, z0, x1, z1 = body.footprint
            polygons.append(np.array([[x0, 0, z0], [x1, 0, z0], [x1, 0, z1], [x0, 0, z1]]))
    for corners in _to_samples(polygons, camera):
        if len(corners):
            cv2.fillPoly(buffer, [corners], 190, cv2.LINE_8, SHIFT)
    return cv2.blur(buffer, (9, 5)).astype(np.float32) / np.float32(255)


def _depth_range(polygons: list[Points], camera: Camera) -> tuple[Points, Points]:
    """Smallest and largest depth of every polygon in metres, between NEAR and SKY_DEPTH."""
    starts = np.cumsum([0, *(len(corners) for corners in polygons[:-1])])
    depth = np.clip(camera.to_camera(np.concatenate(polygons))[:, 2], NEAR, SKY_DEPTH)
    return np.minimum.reduceat(depth, starts), np.maximum.reduceat(depth, starts)


def _to_samples(polygons: list[Points], camera: Camera) -> list[NDArray[np.int32]]:
    """Convert street polygons to fixed-point sample corners; empty for polygons behind the near plane."""
    if not polygons:
        return []
    ends = np.cumsum([len(corners) for corners in polygons])[:-1]
    points = camera.to_camera(np.concatenate(polygons))
    behind = np.logical_or.reduceat(points[:, 2] < NEAR, np.concatenate([[0], ends]))
    safe = np.where(points[:, 2:] < NEAR, [[0.0, 0.0, NEAR]], points)
    samples = np.split(_fixed_point(camera.project(safe)), ends)
    for index in np.flatnonzero(behind):
        clipped = clip_near(camera.to_camera(polygons[index]))
        samples[index] = _fixed_point(camera.project(clipped)) if len(clipped) > 2 else np.empty((0, 2), np.int32)
    return samples


def _fixed_point(pixels: Points) -> NDArray[np.int32]:
    samples = np.clip(2 * pixels, -LIMIT, LIMIT)
    return np.rint(samples * 2**SHIFT).astype(np.int32)


@dataclass(frozen=True)
class Spots:
    """Face (row in the face table), depth Z and street position in metres of every sample, all (2H + 1, 2W + 1)."""

    face: NDArray[np.intp]
    depth: Picture
    x: Picture
    y: Picture
    z: Picture


def locate(buffer: NDArray[np.int32], table: FaceTable, camera: Camera) -> Spots:
    """Intersect every viewing ray with the plane of its face.

    A sample on the outline of a face seen edge-on may miss it by far, so that its depth is clipped to that of the face.
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
    """X of every sample column, (2W + 1,), and Y of every sample row, (2H + 1,), at depth 1."""
    x = (np.arange(2 * camera.width + 1) / 2 - camera.width / 2) / camera.focal
    y = (np.arange(2 * camera.height + 1) / 2 - camera.horizon) / camera.focal
    return x.astype(np.float32), y.astype(np.float32)
