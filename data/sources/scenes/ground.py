"""The level ground: road, pavement, grass, and what is painted on the road."""

import numpy as np

from data.sources.scenes.faces import Body, Colour, Face, Points, disc, ground_quad
from data.sources.scenes.layout import BEHIND, FAR, Street, sign_of
from data.sources.scenes.textures import ASPHALT, GRASS, PAVING

LINE = 0.12  # metres; width of a painted line


def build_ground(rng: np.random.Generator, street: Street, labels: dict[str, int]) -> list[Body]:
    """All faces at height 0, to be drawn before anything else, in this order."""
    grey = rng.uniform(0.045, 0.14)
    road = grey * (1 + np.array([0.06, 0.0, -0.06]) * rng.uniform(-1, 1))
    asphalt: Colour = (float(road[0]), float(road[1]), float(road[2]))
    tone = rng.uniform(0.16, 0.38)
    slab: Colour = (tone * rng.uniform(1.0, 1.15), tone, tone * rng.uniform(0.8, 1.0))
    lawn: Colour = (rng.uniform(0.06, 0.12), rng.uniform(0.13, 0.2), rng.uniform(0.02, 0.05))
    paving = int(rng.choice([PAVING, PAVING, ASPHALT]))

    def body(label: str, faces: list[Face]) -> Body:
        return Body(labels[label], faces, shadow=False)

    kerb = (tone * 1.2, tone * 1.2, tone * 1.2)
    bodies = [
        body("vegetation", [Face(ground_quad(-400, 400, -40, 420), lawn, GRASS)]),
        body("pavement", [Face(quad, slab, paving) for quad in _pavements(street)]),
        body("pavement", [Face(quad, kerb) for quad in _kerbs(street)]),
        body("road", [Face(quad, asphalt, ASPHALT) for quad in _roads(street)]),
        body("road", _patches(rng, street, asphalt)),
    ]
    white = rng.uniform(0.35, 0.7)
    paint = (white, white, white * rng.uniform(0.85, 1.0))
    bodies.append(body("road", [Face(quad, paint, ASPHALT) for quad in _markings(rng, street)]))
    return bodies


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
    return [
        ground_quad(-road - 0.18, -road, BEHIND, street.end - 4),
        ground_quad(road, road + 0.18, BEHIND, street.end - 4),
    ]


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
