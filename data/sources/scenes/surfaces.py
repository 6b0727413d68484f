"""Surfaces in the street: flat faces, the shapes made of them, their drawing order and their textures.

Textures are the photographs of brick, grass and gravel inside scikit-image's wheel, and drawn patterns. Every texture
is a periodic square of brightness factors around 1, kept with its smaller copies (Williams 1983, "Pyramidal
parametrics") in one flat array, so that one lookup serves a whole image.
"""

import colorsys
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ... import images

SIDE = 256  # texels
LEVELS = 9
AHEAD = np.float32(2**17)  # texels: whole tiles that make coordinates positive, so that truncation is floor
PLAIN, BRICK, GRASS, ASPHALT, PLASTER, PAVING, LEAVES, CLOUDS = range(8)
METRES = np.array([1.0, 2.4, 1.6, 1.3, 6.0, 2.4, 2.4, 1.0])  # the side of one tile
STRENGTH = np.array([0.0, 1.0, 1.0, 0.6, 0.5, 1.0, 1.5, 1.0])  # contrast / contrast of the picture

Colour = tuple[float, float, float]
Points = NDArray[np.float64]


class Face(NamedTuple):
    """One flat polygon.

    Its fields are street points (K, 3), reflectance as linear RGB in [0, 1], index of the texture, and index of the
    facade style (-1 = none).
    """

    vertices: Points
    colour: Colour
    texture: int = PLAIN
    facade: int = -1


@dataclass(frozen=True)
class Body:
    """Faces in drawing order that belong to one object.

    `label` is a segmentation index. `footprint` is (x0, z0, x1, z1) in metres on the ground. `countable` bodies
    are instances and get a box; `shadow` bodies darken the ground behind them.
    """

    label: int
    faces: list[Face]
    footprint: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    countable: bool = False
    shadow: bool = True


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Linear reflectance of a displayed HSV colour; all values in [0, 1], and the hue is periodic."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return red**2.2, green**2.2, blue**2.2


def inset(quad: Points, left: float, low: float, right: float, high: float) -> Points:
    """A smaller quad (4, 3) on a quad whose corners run low left, low right, high right, high left."""
    u = np.array([left, right, right, left])[:, None]
    v = np.array([low, low, high, high])[:, None]
    return (1 - v) * ((1 - u) * quad[0] + u * quad[1]) + v * ((1 - u) * quad[3] + u * quad[2])


def ground_quad(x0: float, x1: float, z0: float, z1: float) -> Points:
    """A rectangle on the ground, (4, 3)."""
    return np.array([[x0, 0, z0], [x1, 0, z0], [x1, 0, z1], [x0, 0, z1]], dtype=np.float64)


def place(points: Points, x: float, z: float, heading: float) -> Points:
    """Rotate local points (..., 3) by a heading in radians (0 = along z, positive to the right) and move to (x, z)."""
    cos, sin = np.cos(heading), np.sin(heading)
    turned = points @ np.array([[cos, 0.0, -sin], [0.0, 1.0, 0.0], [sin, 0.0, cos]])
    return turned + np.array([x, 0.0, z])


def stand(shapes: list[NDArray[np.float64]], x: float, z: float, heading: float, ahead: float = 0.0) -> list[Points]:
    """Flat shapes (K, 2) of (across, up) as upright street polygons through (x, z).

    Heading 0 is square to the street's axis; `ahead` shifts them along their own normal, away from the viewer.
    """
    cos, sin = np.cos(heading), np.sin(heading)
    flat = np.concatenate(shapes)
    points = np.empty((len(flat), 3))
    points[:, 0] = x + cos * flat[:, 0] + sin * ahead
    points[:, 1] = flat[:, 1]
    points[:, 2] = z - sin * flat[:, 0] + cos * ahead
    return np.split(points, np.cumsum([len(shape) for shape in shapes])[:-1])


def prism(profile: Points, half_widths: Points) -> list[Points]:
    """The sides of a convex solid around a profile (K, 2) of (along, up): left, right, then a quad per edge.

    `half_widths` (K,) is how far the solid reaches to either side at every profile point. Local frame: x across,
    y up, z along.
    """
    left = np.column_stack([-half_widths, profile[:, 1], profile[:, 0]])
    right = left * np.array([-1.0, 1.0, 1.0])
    following = np.roll(np.arange(len(profile)), -1)
    quads = [np.array([left[i], right[i], right[j], left[j]]) for i, j in enumerate(following)]
    return [left, right, *quads]


def box(width: float, height: float, length: float) -> list[Points]:
    """The sides of a box that stands on the ground: left, right, bottom, front (+z), top, back (-z)."""
    half = length / 2
    profile = np.array([[-half, 0.0], [half, 0.0], [half, height], [-half, height]])
    return prism(profile, np.full(4, width / 2))


def facing(sides: list[Points], eye: Points) -> list[bool]:
    """Which sides of a convex solid look towards the eye (3,); the first two hold all of its corners."""
    centre = (sides[0].mean(axis=0) + sides[1].mean(axis=0)) / 2
    corners = np.array([side[:3] for side in sides])
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    normals = first[:, [1, 2, 0]] * second[:, [2, 0, 1]] - first[:, [2, 0, 1]] * second[:, [1, 2, 0]]
    outward = (normals * (corners[:, 0] - centre)).sum(axis=1)
    towards = (normals * (eye - corners[:, 0])).sum(axis=1)
    return [bool(seen) for seen in outward * towards > 0]


def visible(sides: list[Points], eye: Points) -> list[Points]:
    """The sides of a convex solid that look towards the eye (3,)."""
    return [side for side, is_seen in zip(sides, facing(sides, eye), strict=True) if is_seen]


def disc(radius: float, count: int = 12) -> NDArray[np.float64]:
    """A circle as a polygon (count, 2) around the origin."""
    angle = np.arange(count) * (2 * np.pi / count)
    return radius * np.column_stack([np.cos(angle), np.sin(angle)])


def footprint(points: Points) -> tuple[float, float, float, float]:
    """Bounding rectangle (x0, z0, x1, z1) on the ground of street points (..., 3)."""
    flat = points.reshape(-1, 3)
    return float(flat[:, 0].min()), float(flat[:, 2].min()), float(flat[:, 0].max()), float(flat[:, 2].max())


def back_to_front(bodies: list[Body], eye: Points) -> list[Body]:
    """Order bodies so that each is drawn after all that it can hide.

    Two disjoint footprints are parted by a line along x or z; the one on the eye's side may hide the other. Where
    that leaves a circle, the farthest goes first.
    """
    if not bodies:
        return []
    prints = np.array([body.footprint for body in bodies])
    hides = _hides(prints[:, 0], prints[:, 2], eye[0]) | _hides(prints[:, 1], prints[:, 3], eye[2])
    hides &= ~hides.T
    middle = (prints[:, :2] + prints[:, 2:]) / 2
    distance = np.hypot(middle[:, 0] - eye[0], middle[:, 1] - eye[2])
    waiting = np.ones(len(bodies), bool)
    order = []
    while waiting.any():
        blocked = (hides & waiting[None]).any(axis=1)
        free = waiting & ~blocked if (waiting & ~blocked).any() else waiting
        chosen = int(np.argmax(np.where(free, distance, -1.0)))
        waiting[chosen] = False
        order.append(bodies[chosen])
    return order


def _hides(low: Points, high: Points, eye: float) -> NDArray[np.bool_]:
    """Entry i, j: along this axis interval i lies between the eye and interval j."""
    above = (high[:, None] <= low[None]) & (eye <= low[None])
    below = (low[:, None] >= high[None]) & (eye >= high[None])
    return above | below


@dataclass(frozen=True)
class Atlas:
    """All textures and their smaller copies. `texels` is flat; `offset[texture, level]` is where a copy starts."""

    texels: NDArray[np.float32]
    offset: NDArray[np.intp]

    def lookup(
        self,
        texture: NDArray[np.intp],
        u: NDArray[np.float32],
        v: NDArray[np.float32],
        footprint: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Brightness factors at surface coordinates u, v in metres; `footprint` is the size of a sample in metres.

        All arrays have the same shape; `texture` holds indices of textures.
        """
        per_metre = (SIDE / METRES).astype(np.float32)
        level = np.log2(np.maximum(footprint * np.take(per_metre, texture), 1)).astype(np.intp)
        copy = texture * LEVELS + np.minimum(level, LEVELS - 1)
        scale = np.take((per_metre[:, None] * np.exp2(-np.arange(LEVELS, dtype=np.float32))).ravel(), copy)
        side = np.take(np.tile(SIDE >> np.arange(LEVELS), len(METRES)), copy)
        column = (u * scale + AHEAD).astype(np.intp) & (side - 1)
        row = (v * scale + AHEAD).astype(np.intp) & (side - 1)
        return np.take(self.texels, np.take(self.offset.ravel(), copy) + row * side + column)


@lru_cache(maxsize=1)
def load_atlas() -> Atlas:
    """The atlas, built once per process; it is always the same."""
    gravel = _photograph("gravel.png")
    grass = _photograph("grass.png")
    pictures = [
        np.ones((SIDE, SIDE), np.float32),
        _photograph("brick.png").T[::-1],
        grass,
        gravel,
        0.5 * _noise(1, 1.2) + 0.5 * _noise(2, 0.4),
        _slabs() * (0.6 + 0.4 * gravel),
        grass,
        _noise(3, 1.7),
    ]
    copies, offsets, start = [], [], 0
    for picture, strength in zip(pictures, STRENGTH, strict=True):
        texture = np.maximum(1 + strength * (picture - 1), 0).astype(np.float32)
        for level in range(LEVELS):
            side = SIDE >> level
            copies.append(cv2.resize(texture, (side, side), interpolation=cv2.INTER_AREA).ravel())
            offsets.append(start)
            start += side * side
    return Atlas(np.concatenate(copies), np.array(offsets, np.intp).reshape(len(pictures), LEVELS))


def _photograph(name: str) -> NDArray[np.float32]:
    """A bundled photograph as a periodic texture: large-scale shading divided out, then mirrored."""
    path = Path(str(resources.files("skimage") / "data" / name))
    grey = images.read_image(path)[:, :, 0].astype(np.float32)
    flat = grey / cv2.GaussianBlur(grey, (0, 0), 60)
    flat = cv2.resize(flat / flat.mean(), (SIDE // 2, SIDE // 2), interpolation=cv2.INTER_AREA)
    return np.block([[flat, flat[:, ::-1]], [flat[::-1], flat[::-1, ::-1]]])


def _noise(seed: int, slope: float) -> NDArray[np.float32]:
    """Periodic noise with amplitude ~ 1 / frequency^slope, mean 1, standard deviation 0.25."""
    spectrum = np.fft.rfft2(np.random.default_rng(seed).standard_normal((SIDE, SIDE)))
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None])
    frequency[0, 0] = np.inf
    picture = np.fft.irfft2(spectrum / frequency**slope, s=(SIDE, SIDE))
    return (1 + 0.25 * picture / picture.std()).astype(np.float32)


def _slabs() -> NDArray[np.float32]:
    """Paving slabs of 0.6 m with dark joints, each slightly lighter or darker."""
    count, size = 4, SIDE // 4
    tones = 1 + 0.08 * np.random.default_rng(4).standard_normal((count, count)).astype(np.float32)
    slabs = np.kron(tones, np.ones((size, size), np.float32))
    joint = (np.arange(SIDE) % size) < 3
    slabs[joint, :] *= 0.65
    slabs[:, joint] *= 0.65
    return slabs
