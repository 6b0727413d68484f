"""Traffic signs, and the street furniture that is easily taken for something else.

A sign's plate is the thing; its post, like all other furniture, belongs to no class (ignored in the mask).
"""

import numpy as np

from data.sources.scenes.faces import Body, Colour, Face, Points, box, disc, facing, footprint, hsv, place, stand

RED: Colour = (0.55, 0.015, 0.02)
BLUE: Colour = (0.015, 0.1, 0.45)
WHITE: Colour = (0.75, 0.75, 0.75)
YELLOW: Colour = (0.75, 0.45, 0.02)
BLACK: Colour = (0.02, 0.02, 0.02)
STEEL: Colour = (0.3, 0.3, 0.3)

SQUARE = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
TRIANGLE = np.array([[-1.05, -0.75], [1.05, -0.75], [0.0, 1.05]])
OCTAGON = disc(1.0, 8) @ np.array([[0.924, 0.383], [-0.383, 0.924]])


def build_sign(rng: np.random.Generator, x: float, z: float, eye: Points, label: int, other: int) -> list[Body]:
    """A post and the plate in front of it, in drawing order. The plate's upper edge is 2.2 to 3 m up."""
    heading = float(np.arctan2(x - eye[0], z - eye[2])) * 0.6 + rng.uniform(-0.35, 0.35)
    size, middle = rng.uniform(0.3, 0.48), rng.uniform(1.8, 2.5)
    rod = np.array([[-0.035, 0], [0.035, 0], [0.035, middle + 0.2], [-0.035, middle + 0.2]])
    place_print = (x - 0.3, z - 0.15, x + 0.3, z + 0.15)
    post = Body(other, [Face(stand([rod], x, z, heading)[0], STEEL)], place_print)
    parts = _plate(rng)
    shapes = stand([shape * size + [0.0, middle] for shape, _ in parts], x, z, heading, ahead=-0.06)
    faces = [Face(points, colour) for points, (_, colour) in zip(shapes, parts, strict=True)]
    return [post, Body(label, faces, place_print, countable=True)]


def _plate(rng: np.random.Generator) -> list[tuple[Points, Colour]]:
    """Outline, field and symbol (K, 2) of one of seven kinds of sign, in units of its half size."""
    ring, bar = disc(1.0, 16), SQUARE * [0.62, 0.17]
    kinds: list[list[tuple[Points, Colour]]] = [
        [(ring, RED), (ring * 0.74, WHITE), (SQUARE * [0.4, 0.28], BLACK)],
        [(ring, RED), (bar, WHITE)],
        [(ring, BLUE), (SQUARE * [0.16, 0.6], WHITE)],
        [(TRIANGLE, RED), (TRIANGLE * 0.66, WHITE), (SQUARE * [0.1, 0.3], BLACK)],
        [(OCTAGON, RED), (bar * [1.1, 1.2], WHITE)],
        [(disc(1.1, 4), WHITE), (disc(0.9, 4), YELLOW)],
        [(SQUARE * 0.9, BLUE), (SQUARE * [0.3, 0.5], WHITE)],
    ]
    return kinds[int(rng.integers(len(kinds)))]


def build_clutter(rng: np.random.Generator, x: float, z: float, eye: Points, label: int) -> Body:
    """A bin, parcel, skip, bollard, lamp post, cabinet or advertising board."""
    kind = str(rng.choice(["bin", "parcel", "skip", "bollard", "lamp", "cabinet", "board"]))
    heading = rng.uniform(-0.4, 0.4)
    if kind == "board":
        return _board(rng, x, z, eye, label)
    width, height, length, colour = _measures(rng, kind)
    sides = [place(side, x, z, heading) for side in box(width, height, length)]
    seen = facing(sides, eye)
    faces = [Face(side, colour) for side, shows in zip(sides, seen, strict=True) if shows]
    if kind == "bin":
        lid = [place(side + np.array([0, height, 0]), x, z, heading) for side in box(1.1 * width, 0.12, 1.1 * length)]
        tone = (0.6 * colour[0], 0.6 * colour[1], 0.6 * colour[2])
        faces += [Face(side, tone) for side, shows in zip(lid, facing(lid, eye), strict=True) if shows]
    if kind == "lamp":
        globe = disc(0.22) + np.array([0.0, height])
        turned = float(np.arctan2(x - eye[0], z - eye[2]))
        faces.append(Face(stand([globe], x, z, turned)[0], WHITE))
    return Body(label, faces, footprint(np.array(sides[2:])))


def _measures(rng: np.random.Generator, kind: str) -> tuple[float, float, float, Colour]:
    """Width, height and length in metres, and the colour, of a box-shaped kind."""
    vivid = hsv(rng.random(), rng.uniform(0.15, 0.7), rng.uniform(0.2, 0.75))
    grey = hsv(0.3, rng.uniform(0, 0.3), rng.uniform(0.2, 0.6))
    card = hsv(0.08, rng.uniform(0.3, 0.5), rng.uniform(0.5, 0.75))
    table: dict[str, tuple[float, float, float, Colour]] = {
        "bin": (rng.uniform(0.4, 0.7), rng.uniform(0.8, 1.25), rng.uniform(0.4, 0.7), vivid),
        "parcel": (rng.uniform(0.3, 1.0), rng.uniform(0.25, 0.9), rng.uniform(0.3, 1.0), card),
        "skip": (rng.uniform(1.3, 1.8), rng.uniform(1.0, 1.4), rng.uniform(2.2, 3.4), vivid),
        "bollard": (0.14, rng.uniform(0.7, 1.1), 0.14, grey),
        "lamp": (0.12, rng.uniform(3.5, 6.5), 0.12, grey),
        "cabinet": (rng.uniform(0.35, 0.8), rng.uniform(1.2, 2.0), rng.uniform(0.35, 0.8), vivid),
    }
    return table[kind]


def _board(rng: np.random.Generator, x: float, z: float, eye: Points, label: int) -> Body:
    """An advertising board on the pavement, with coloured fields."""
    heading = float(np.arctan2(x - eye[0], z - eye[2])) + rng.uniform(-0.3, 0.3)
    half, top = rng.uniform(0.3, 0.6), rng.uniform(1.0, 2.0)
    faces = []
    for low, high, width in ((0.0, 1.0, 1.0), (0.15, 0.5, 0.8), (0.6, 0.9, 0.7)):
        field = np.array([[-1, low], [1, low], [1, high], [-1, high]]) * [half * width, top]
        colour = hsv(rng.random(), rng.uniform(0.1, 0.9), rng.uniform(0.2, 0.95))
        faces.append(Face(stand([field], x, z, heading)[0], colour))
    return Body(label, faces, (x - half, z - 0.2, x + half, z + 0.2))
