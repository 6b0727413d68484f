"""Trees and hedges."""

import numpy as np

from data.sources.scenes.faces import Body, Colour, Face, Points, box, disc, facing, footprint, place, stand
from data.sources.scenes.textures import GRASS, LEAVES, PLASTER


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
    seen = [side for side, shows in zip(sides, facing(sides, eye), strict=True) if shows]
    return Body(label, [Face(side, green, GRASS) for side in seen], footprint(np.array(sides[2:])))


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
