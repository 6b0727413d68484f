"""The pin-hole camera, and the two frames that a scene lives in.

Street frame, metres: x to the right across the street (0 in its middle), y up (0 on the ground), z along it.
Camera frame, metres: X right, Y down, Z forward (the depth). The optical axis is level, so that a ground point
at row v lies at depth f·h / (v − horizon); pixel j covers [j, j + 1), its centre is j + 0.5.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

NEAR = 0.4  # metres; nothing closer than this is drawn


@dataclass(frozen=True)
class Camera:
    """A level camera. `focal` and `horizon` (a row) are in pixels, `yaw` in radians, to the right."""

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
        """Street directions to camera directions, (3, 3)."""
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        return np.array([[cos, 0.0, -sin], [0.0, -1.0, 0.0], [sin, 0.0, cos]])

    def to_camera(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Street points (..., 3) to camera points (..., 3)."""
        return (points - self.eye) @ self.rotation.T

    def project(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Camera points (..., 3) with Z > 0 to pixel coordinates (..., 2)."""
        pixels = self.focal * points[..., :2] / points[..., 2:]
        return pixels + np.array([self.width / 2, self.horizon])

    def street_position(self, column: float, depth: float) -> tuple[float, float]:
        """(x, z) of the street point that is seen in a pixel column at a depth."""
        right = (column - self.width / 2) / self.focal * depth
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        return float(self.x + right * cos + depth * sin), float(depth * cos - right * sin)


def clip_near(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cut a polygon of camera points (K, 3) at Z = NEAR (Sutherland and Hodgman 1974); empty where all is behind."""
    kept = []
    for start, end in zip(points, np.roll(points, -1, axis=0), strict=True):
        if start[2] >= NEAR:
            kept.append(start)
        if (start[2] >= NEAR) != (end[2] >= NEAR):
            kept.append(start + (end - start) * (NEAR - start[2]) / (end[2] - start[2]))
    return np.array(kept).reshape(-1, 3)
