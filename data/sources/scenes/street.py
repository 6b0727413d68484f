"""A street: its plan, its ground, and the plants, signs and furniture beside the road."""

from dataclasses import dataclass

import numpy as np

from .surfaces import (
    ASPHALT,
    GRASS,
    LEAVES,
    PAVING,
    PLASTER,
    Body,
    Colour,
    Face,
    Points,
    box,
    disc,
    footprint,
    ground_quad,
    hsv,
    place,
    stand,
    visible,
)

FAR = 190.0  # metres; largest end of buildings and road
BEHIND = -30.0  # metres; start of buildings and road, behind the camera
LINE = 0.12  # metres; width of a painted line
KERB = 0.18  # metres; width of a kerb

RED: Colour = (0.55, 0.015, 0.02)
BLUE: Colour = (0.015, 0.1, 0.45)
WHITE: Colour = (0.75, 0.75, 0.75)
YELLOW: Colour = (0.75, 0.45, 0.02)
BLACK: Colour = (0.02, 0.02, 0.02)
STEEL: Colour = (0.3, 0.3, 0.3)

SQUARE = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
TRIANGLE = np.array([[-1.05, -0.75], [1.05, -0.75], [0.0, 1.05]])
OCTAGON = disc(1.0, 8) @ np.array([[0.924, 0.383], [-0.383, 0.924]])


@dataclass(frozen=True)
class Street:
    """The plan of a street. Lengths are in metres, pairs (left, right). `frontage`: "terrace", "detached" or "park"."""

    road: float  # half of the road's width
    pavement: tuple[float, float]
    verge: tuple[float, float]  # grass between the pavement and the buildings
    frontage: tuple[str, str]
    crossing: float | None  # middle of the crossing street, along this one
    crossing_half: float
    end: float  # where a building closes the street, or FAR

    def kerb(self, side: int) -> float:
        """Distance of the pavement's outer edge from the middle in metres, on side 0 (left) or 1."""
        return self.road + self.pavement[side]

    def wall(self, side: int) -> float:
        """Distance of the buildings from the middle in metres."""
        return self.kerb(side) + self.verge[side]

    def crossed(self, z: float, margin: float = 1.0) -> bool:
        """Whether the crossing street, widened by `margin` metres, covers a position along this street."""
        return self.crossing is not None and abs(z - self.crossing) < self.crossing_half + margin


def sign_of(side: int) -> int:
    """-1 for the left side (0), +1 for the right side (1)."""
    return 2 * side - 1


def draw_street(rng: np.random.Generator) -> Street:
    """Draw the plan of a street; a third are closed by a building, and half are crossed by another street."""
    frontage = rng.choice(["terrace", "detached", "park"], size=2, p=[0.55, 0.27, 0.18])
    verge = [0.0 if kind == "terrace" else float(rng.uniform(1.0, 6.0)) for kind in frontage]
    closed = rng.random() < 0.35
    return Street(
        road=float(rng.uniform(3.2, 6.5)),
        pavement=(float(rng.uniform(1.8, 4.5)), float(rng.uniform(1.8, 4.5))),
        verge=(verge[0], verge[1]),
        frontage=(str(frontage[0]), str(frontage[1])),
        crossing=float(rng.uniform(14, 60)) if rng.random() < 0.5 else None,
        crossing_half=float(rng.uniform(3.0, 5.0)),
        end=float(rng.uniform(55, 130)) if closed else FAR,
    )


def build_ground(rng: np.random.Generator, street: Street, labels: dict[str, int]) -> list[Body]:
    """Draw the ground: bodies of all faces at height 0, to be drawn first, in this order."""
    grey = rng.uniform(0.045, 0.14)
    road = grey * (1 + np.array([0.06, 0.0, -0.06]) * rng.uniform(-1, 1))
    asphalt: Colour = (float(road[0]), float(road[1]), float(road[2]))
    tone = rng.uniform(0.16, 0.38)
    slab: Colour = (tone * rng.uniform(1.0, 1.15), tone, tone * rng.uniform(0.8, 1.0))
    lawn: Colour = (rng.uniform(0.06, 0.12), rng.uniform(0.13, 0.2), rng.uniform(0.02, 0.05))
    paving = int(rng.choice([PAVING, PAVING, ASPHALT]))
    kerb = (tone * 1.2, tone * 1.2, tone * 1.2)
    layers = [
        ("vegetation", [Face(ground_quad(-400, 400, -40, 420), lawn, GRASS)]),
        ("pavement", [Face(quad, slab, paving) for quad in _pavements(street)]),
        ("pavement", [Face(quad, kerb) for quad in _kerbs(street)]),
        ("road", [Face(quad, asphalt, ASPHALT) for quad in _roads(street)]),
        ("road", _patches(rng, street, asphalt)),
    ]
    white = rng.uniform(0.35, 0.7)
    paint = (white, white, white * rng.uniform(0.85, 1.0))
    layers.append(("road", [Face(quad, paint, ASPHALT) for quad in _markings(rng, street)]))
    return [Body(labels[label], faces, shadow=False) for label, faces in layers]


def _pavements(street: Street) -> list[Points]:
    quads = []
    for side in (0, 1):
        inner, outer = sorted((sign_of(side) * street.road, sign_of(side) * street.kerb(side)))
        quads.append(ground_quad(inner, outer, BEHIND, street.end))
    if street.crossing is not None:
        half = street.crossing_half + 2.0
        quads.append(ground_quad(-90, 90, street.crossing - half, street.crossing + half))
    if street.end < FAR:
        quads.append(ground_quad(-40, 40, street.end - 4, street.end))
    return quads


def _kerbs(street: Street) -> list[Points]:
    road = street.road
    spans = (-road - KERB, -road), (road, road + KERB)
    return [ground_quad(low, high, BEHIND, street.end - 4) for low, high in spans]


def _roads(street: Street) -> list[Points]:
    end = street.end - 4 if street.end < FAR else FAR
    quads = [ground_quad(-street.road, street.road, BEHIND, end)]
    if street.crossing is not None:
        low, high = street.crossing - street.crossing_half, street.crossing + street.crossing_half
        quads.append(ground_quad(-90, 90, low, high))
    return quads


def _patches(rng: np.random.Generator, street: Street, asphalt: Colour) -> list[Face]:
    """Repairs of the road in another tone, and manhole covers."""
    faces = []
    for _ in range(int(rng.integers(0, 5))):
        x, z, tone = rng.uniform(-street.road, street.road - 1.5), rng.uniform(4, 40), rng.uniform(0.6, 1.3)
        right = min(street.road, x + rng.uniform(0.6, 3))
        colour = (asphalt[0] * tone, asphalt[1] * tone, asphalt[2] * tone)
        faces.append(Face(ground_quad(x, right, z, z + rng.uniform(1, 9)), colour, ASPHALT))
    for _ in range(int(rng.integers(0, 4))):
        rim = disc(0.35)
        x, z = rng.uniform(-street.road + 0.5, street.road - 0.5), rng.uniform(3, 25)
        faces.append(Face(np.column_stack([rim[:, 0] + x, np.zeros(len(rim)), rim[:, 1] + z]), (0.03, 0.03, 0.03)))
    return faces


def _markings(rng: np.random.Generator, street: Street) -> list[Points]:
    """Centre line, edge lines, and a zebra crossing; none on the crossing street."""
    quads = []
    gap = (street.crossing or -99.0) + street.crossing_half * np.array([-1.0, 1.0])
    spans = [(BEHIND, gap[0]), (gap[1], street.end - 4)] if street.crossing else [(BEHIND, street.end - 4)]
    if rng.random() < 0.8:
        starts = np.arange(BEHIND, min(street.end - 6, 110), rng.uniform(4.5, 8))
        dashes = [start for start in starts if not gap[0] - 3 < start < gap[1]]
        quads += [ground_quad(-LINE / 2, LINE / 2, start, start + 2.5) for start in dashes]
    if rng.random() < 0.5:
        edge = street.road - rng.uniform(0.25, 2.2)
        for x in (-edge, edge):
            quads += [ground_quad(x - LINE / 2, x + LINE / 2, low, high) for low, high in spans if high > low]
    if rng.random() < 0.45:
        near = gap[0] - 5 if street.crossing else rng.uniform(5, 30)
        stripes = np.arange(-street.road + 0.4, street.road - 0.5, 1.0)
        quads += [ground_quad(x, x + 0.5, near, near + 3) for x in stripes]
    return quads


def build_tree(rng: np.random.Generator, x: float, z: float, eye: Points, label: int) -> Body:
    """A trunk and a crown of ragged tufts that face the camera; the crown starts above people's heads."""
    heading = float(np.arctan2(x - eye[0], z - eye[2]))
    height, girth, bare = rng.uniform(4.5, 10), rng.uniform(0.1, 0.25), rng.uniform(1.9, 2.8)
    bark: Colour = (rng.uniform(0.05, 0.14), rng.uniform(0.04, 0.1), rng.uniform(0.03, 0.07))
    top = 0.5 * (height + bare)
    trunk = np.array([[-girth, 0], [girth, 0], [0.5 * girth, top], [-0.5 * girth, top]])
    faces = [Face(stand([trunk], x, z, heading)[0], bark, PLASTER)]
    green, rise = _foliage(rng), (height - bare) / 2
    spread = rise * rng.uniform(0.7, 1.2)
    middle = np.array([0.0, bare + rise])
    tufts, tones = [_ragged(rng, 0.6 * rise) + middle], [0.75]
    for _ in range(int(rng.integers(9, 16))):
        angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.75)
        shift = np.array([np.cos(angle) * reach * spread, np.sin(angle) * reach * rise])
        tufts.append(_ragged(rng, rng.uniform(0.28, 0.45) * rise) + middle + shift)
        tones.append(rng.uniform(0.8, 1.15) + 0.35 * np.sin(angle) * reach)
    for points, tone in zip(stand(tufts, x, z, heading), tones, strict=True):
        faces.append(Face(points, (green[0] * tone, green[1] * tone, green[2] * tone), LEAVES))
    return Body(label, faces, (x - 0.3, z - 0.3, x + 0.3, z + 0.3))


def build_hedge(rng: np.random.Generator, x: float, z: float, length: float, eye: Points, label: int) -> Body:
    """A clipped hedge along the street."""
    sides = [place(side, x, z, 0.0) for side in box(rng.uniform(0.5, 0.9), rng.uniform(0.6, 1.7), length)]
    green = _foliage(rng)
    return Body(label, [Face(side, green, GRASS) for side in visible(sides, eye)], footprint(np.array(sides[2:])))


def build_bush(rng: np.random.Generator, x: float, z: float, eye: Points, label: int) -> Body:
    """A low round shrub."""
    heading, size, green = float(np.arctan2(x - eye[0], z - eye[2])), rng.uniform(0.3, 0.8), _foliage(rng)
    tufts = [_ragged(rng, size) + size * np.array([rng.uniform(-0.6, 0.6), 0.8]) for _ in range(3)]
    grounded = [np.maximum(tuft, [-np.inf, 0.0]) for tuft in tufts]
    faces = [Face(points, green, LEAVES) for points in stand(grounded, x, z, heading)]
    return Body(label, faces, (x - size, z - 0.3, x + size, z + 0.3))


def _foliage(rng: np.random.Generator) -> Colour:
    autumn = rng.random() < 0.2
    red = rng.uniform(0.2, 0.35) if autumn else rng.uniform(0.05, 0.12)
    return float(red), float(rng.uniform(0.11, 0.2)), float(rng.uniform(0.02, 0.05))


def _ragged(rng: np.random.Generator, radius: float) -> Points:
    """A round shape with an uneven edge, (26, 2)."""
    circle = disc(radius, 26)
    return circle * rng.uniform(0.7, 1.15, (len(circle), 1))


def build_sign(rng: np.random.Generator, x: float, z: float, eye: Points, label: int, post_label: int) -> list[Body]:
    """A post and the plate in front of it, in drawing order. The plate's upper edge is 2.2 to 3 m up."""
    heading = float(np.arctan2(x - eye[0], z - eye[2])) * 0.6 + rng.uniform(-0.35, 0.35)
    size, middle = rng.uniform(0.3, 0.48), rng.uniform(1.8, 2.5)
    rod = np.array([[-0.035, 0], [0.035, 0], [0.035, middle + 0.2], [-0.035, middle + 0.2]])
    area = (x - 0.3, z - 0.15, x + 0.3, z + 0.15)
    post = Body(post_label, [Face(stand([rod], x, z, heading)[0], STEEL)], area)
    parts = _plate(rng)
    shapes = stand([shape * size + [0.0, middle] for shape, _ in parts], x, z, heading, ahead=-0.06)
    faces = [Face(points, colour) for points, (_, colour) in zip(shapes, parts, strict=True)]
    return [post, Body(label, faces, area, countable=True)]


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
    faces = [Face(side, colour) for side in visible(sides, eye)]
    if kind == "bin":
        lid = [place(side + np.array([0, height, 0]), x, z, heading) for side in box(1.1 * width, 0.12, 1.1 * length)]
        tone = (0.6 * colour[0], 0.6 * colour[1], 0.6 * colour[2])
        faces += [Face(side, tone) for side in visible(lid, eye)]
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
