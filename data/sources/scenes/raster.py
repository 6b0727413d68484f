"""From faces to a face buffer: which face is seen at every sample, and which samples lie in shadow.

Samples lie half a pixel apart and start on the picture's edge: (2H + 1, 2W + 1) of them. Those with two odd indices
are the pixel centres, where class, instance and depth are read; colour is averaged over the neighbours.
OpenCV also fills the samples that an outline touches, so that an edge may lie up to a quarter pixel too far out.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .camera import NEAR, Camera, clip_near
from .faces import Body, Points

SHIFT = 4  # fractional bits of OpenCV's fixed-point corners
LIMIT = float(2**14)  # samples; corners further out are pulled in
SKY_LABEL = 0  # the sky's segmentation index
SKY_DEPTH = 255.99  # metres; also the largest depth of anything else
SKY_FACE = 0  # the sky's row in the face table
GROUND, ALONG, ACROSS = range(3)  # what a face is closest to: level, a wall along the street, a wall across it


@dataclass(frozen=True)
class FaceTable:
    """One row per face, row 0 is the sky. Planes give the inverse depth: 1 / Z = plane · (x, y, 1)."""

    plane: NDArray[np.float32]  # (3, F)
    distance: NDArray[np.float32]  # (F,) metres from the eye to the plane
    nearest: NDArray[np.float32]  # (F,) least depth Z of the face
    farthest: NDArray[np.float32]  # (F,) its greatest
    normal: NDArray[np.float64]  # (F, 3) street frame, towards the eye
    aspect: NDArray[np.int32]  # (F,) GROUND, ALONG or ACROSS
    ground: NDArray[np.bool_]  # (F,) at height 0, where bodies throw their shadows
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
    """The row in the face table that every sample shows, (2H + 1, 2W + 1)."""
    buffer = np.full((2 * camera.height + 1, 2 * camera.width + 1), SKY_FACE, np.int32)
    polygons = [face.vertices for body in bodies for face in body.faces]
    for row, corners in enumerate(_to_samples(polygons, camera), start=1):
        if len(corners):
            cv2.fillPoly(buffer, [corners], row, cv2.LINE_8, SHIFT)
    return buffer


def shadow_buffer(bodies: list[Body], camera: Camera, sun: Points) -> NDArray[np.float32]:
    """Share of sunlight (2H + 1, 2W + 1) that bodies keep from the *ground* at every sample, 0..1.

    `sun` is the unit direction towards the sun in the street frame; its height must be above 0.
    """
    buffer = np.zeros((2 * camera.height + 1, 2 * camera.width + 1), np.uint8)
    polygons = [face.vertices for body in bodies if body.shadow for face in body.faces]
    thrown = [corners - sun * (corners[:, 1:2] / sun[1]) for corners in polygons]
    for corners in _to_samples(thrown, camera):
        if len(corners):
            cv2.fillPoly(buffer, [corners], 255, cv2.LINE_8, SHIFT)
    return cv2.blur(buffer, (3, 3)).astype(np.float32) / np.float32(255)


def contact_buffer(bodies: list[Body], camera: Camera) -> NDArray[np.float32]:
    """Share of sky light (2H + 1, 2W + 1) that bodies keep from the ground right below them, 0..1."""
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
    """Least and greatest depth of every polygon, between NEAR and SKY_DEPTH."""
    starts = np.cumsum([0, *(len(corners) for corners in polygons[:-1])])
    depth = np.clip(camera.to_camera(np.concatenate(polygons))[:, 2], NEAR, SKY_DEPTH)
    return np.minimum.reduceat(depth, starts), np.maximum.reduceat(depth, starts)


def _to_samples(polygons: list[Points], camera: Camera) -> list[NDArray[np.int32]]:
    """Street polygons to fixed-point sample corners; empty where all of a polygon is behind the near plane."""
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
