"""Cars, as convex solids of five shapes, and people, as flat figures."""

from dataclasses import dataclass

import numpy as np

from .surfaces import Body, Colour, Face, Points, disc, facing, footprint, hsv, inset, place, prism, stand

TYRE: Colour = (0.012, 0.012, 0.013)
RIM: Colour = (0.25, 0.25, 0.26)
LAMP: Colour = (0.8, 0.8, 0.72)
TAIL: Colour = (0.45, 0.02, 0.02)
PLATE: Colour = (0.7, 0.68, 0.5)


@dataclass(frozen=True)
class Shape:
    """The shape of a car: sizes in metres; `base` and `roof` of the cabin as shares of the length, front positive."""

    length: float
    width: float
    height: float
    base: tuple[float, float]
    roof: tuple[float, float]


SHAPES: dict[str, Shape] = {
    "hatchback": Shape(3.9, 1.72, 1.48, (-0.49, 0.22), (-0.38, 0.06)),
    "saloon": Shape(4.6, 1.80, 1.44, (-0.36, 0.24), (-0.20, 0.08)),
    "estate": Shape(4.7, 1.80, 1.47, (-0.49, 0.24), (-0.43, 0.08)),
    "off-roader": Shape(4.6, 1.92, 1.75, (-0.49, 0.25), (-0.43, 0.12)),
    "van": Shape(5.1, 1.98, 2.15, (-0.49, 0.38), (-0.48, 0.24)),
}


def build_car(rng: np.random.Generator, x: float, z: float, heading: float, eye: Points, label: int) -> Body:
    """Draw a car of random shape and colour at (x, z); heading 0 drives away along the street."""
    shape = SHAPES[str(rng.choice(list(SHAPES), p=[0.28, 0.24, 0.16, 0.18, 0.14]))]
    return car_body(shape, _paint(rng), x, z, heading, eye, label)


def car_body(shape: Shape, paint: Colour, x: float, z: float, heading: float, eye: Points, label: int) -> Body:
    """Build a car of a shape and colour with its centre at (x, z)."""
    length, height, half = shape.length, shape.height, shape.width / 2
    belt = 0.60 * height
    under = np.array([[-0.46, 0.03], [0.46, 0.03], [0.46, 0.32], [-0.46, 0.32]]) * [length, 1]
    lower = np.array(
        [
            [-0.49, 0.2 / height],
            [0.49, 0.2 / height],
            [0.5, 0.42],
            [0.47, 0.5],
            [shape.base[1], 0.6],
            [-0.49, 0.6],
            [-0.5, 0.5],
        ]
    ) * [length, height]
    cabin = np.array(
        [
            [shape.base[0] * length, belt],
            [shape.base[1] * length, belt],
            [shape.roof[1] * length, height],
            [shape.roof[0] * length, height],
        ]
    )
    taper = np.array([0.96, 0.96, 0.78, 0.78]) * half

    def part(profile: Points, half_widths: Points) -> tuple[list[Points], list[bool]]:
        sides = [place(side, x, z, heading) for side in prism(profile, half_widths)]
        return sides, facing(sides, eye)

    floor, hull, top = part(under, np.full(4, 0.86 * half)), part(lower, np.full(7, half)), part(cabin, taper)
    faces = [Face(side, TYRE) for side, seen in zip(*floor, strict=True) if seen]
    faces += [Face(side, paint) for side, seen in zip(*hull, strict=True) if seen]
    faces += _ends(*hull, paint)
    faces += [Face(side, paint) for side, seen in zip(*top, strict=True) if seen]
    faces += _windows(*top, van=shape.height > 2)
    for side in (0, 1):
        if hull[1][side]:
            faces += _wheels(shape, x, z, heading, 2 * side - 1)
    return Body(label, faces, footprint(np.array(hull[0][2:])), countable=True)


def _paint(rng: np.random.Generator) -> Colour:
    if rng.random() < 0.55:
        return hsv(0.6, rng.uniform(0, 0.12), float(rng.choice([0.12, 0.3, 0.5, 0.72, 0.92])))
    hue = float(rng.choice([0.0, 0.02, 0.1, 0.15, 0.36, 0.55, 0.6, 0.65]))
    return hsv(hue, rng.uniform(0.5, 0.95), rng.uniform(0.25, 0.85))


def _ends(sides: list[Points], seen: list[bool], paint: Colour) -> list[Face]:
    """Lamps, bumper and plate on the nose (quad 1 of the hull) or the tail (quad 6)."""
    faces = []
    shade = (0.5 * paint[0], 0.5 * paint[1], 0.5 * paint[2])
    if seen[2 + 1]:
        nose = sides[2 + 1]
        faces += [Face(inset(nose, a, 0.62, b, 0.95), LAMP) for a, b in ((0.04, 0.24), (0.76, 0.96))]
        faces += [Face(inset(nose, 0.3, 0.45, 0.7, 0.9), TYRE), Face(inset(nose, 0.34, 0.12, 0.66, 0.34), PLATE)]
    if seen[2 + 6]:
        tail = sides[2 + 6][[2, 3, 0, 1]]
        faces.append(Face(inset(tail, 0.0, 0.0, 1.0, 0.22), shade))
        faces += [Face(inset(tail, a, 0.6, b, 0.98), TAIL) for a, b in ((0.02, 0.2), (0.8, 0.98))]
        faces.append(Face(inset(tail, 0.34, 0.4, 0.66, 0.62), PLATE))
    return faces


def _windows(sides: list[Points], seen: list[bool], van: bool) -> list[Face]:
    """Panes on the cabin: two on each flank (one on a van), the windscreen and the rear window."""
    glass: Colour = (0.035, 0.045, 0.055)
    faces = []
    spans = ((0.62, 0.93),) if van else ((0.06, 0.48), (0.53, 0.94))
    for flank in (0, 1):
        if seen[flank]:
            faces += [Face(inset(sides[flank], a, 0.1, b, 0.88), glass) for a, b in spans]
    if seen[2 + 1]:
        faces.append(Face(inset(sides[2 + 1], 0.06, 0.08, 0.94, 0.9), (0.06, 0.075, 0.09)))
    if seen[2 + 3]:
        faces.append(Face(inset(sides[2 + 3][[2, 3, 0, 1]], 0.08, 0.12, 0.92, 0.88), glass))
    return faces


def _wheels(shape: Shape, x: float, z: float, heading: float, sign: int) -> list[Face]:
    """The two wheels of one flank, tyre and rim, 1 cm outside the body."""
    faces = []
    radius = 0.15 * shape.length**0.5 + 0.02
    for along in (-0.31, 0.32):
        for size, colour in ((radius, TYRE), (0.6 * radius, RIM)):
            ring = disc(size)
            flat = np.column_stack(
                [
                    np.full(len(ring), sign * (shape.width / 2 + 0.01)),
                    ring[:, 1] + radius,
                    ring[:, 0] + along * shape.length,
                ]
            )
            faces.append(Face(place(flat, x, z, heading), colour))
    return faces


SHOE = np.array([[-0.03, 0.0], [0.06, 0.0], [0.05, 0.04], [-0.03, 0.045]])


def build_person(rng: np.random.Generator, x: float, z: float, eye: Points, label: int) -> Body:
    """Draw a child or an adult at (x, z)."""
    height = rng.uniform(1.0, 1.45) if rng.random() < 0.15 else rng.uniform(1.55, 1.95)
    return person_body(rng, float(height), x, z, eye, label)


def person_body(rng: np.random.Generator, height: float, x: float, z: float, eye: Points, label: int) -> Body:
    """Draw a person `height` metres tall, from the soles (y = 0) to the top of the head or hat."""
    heading = float(np.arctan2(x - eye[0], z - eye[2])) + rng.uniform(-0.35, 0.35)
    parts = _figure(rng)
    mirror = float(rng.choice([-1.0, 1.0]))
    crown, sole = max(part[:, 1].max() for part, _ in parts), min(part[:, 1].min() for part, _ in parts)
    scale = height / (crown - sole)
    shapes = [(part - [0.0, sole]) * [mirror * scale, scale] for part, _ in parts]
    faces = [Face(points, colour) for points, (_, colour) in zip(stand(shapes, x, z, heading), parts, strict=True)]
    return Body(label, faces, (x - 0.25, z - 0.25, x + 0.25, z + 0.25), countable=True)


def _figure(rng: np.random.Generator) -> list[tuple[Points, Colour]]:
    """Shapes (K, 2) of (across, up) in units of the body's height, back to front."""
    shirt, trousers = _cloth(rng), _cloth(rng)
    skin = hsv(rng.uniform(0.04, 0.08), rng.uniform(0.3, 0.6), rng.uniform(0.35, 0.9))
    hair = hsv(rng.uniform(0.02, 0.12), rng.uniform(0.2, 0.7), rng.uniform(0.08, 0.6))
    shoe = hsv(rng.random(), 0.3, rng.uniform(0.08, 0.6))
    dark = (0.75 * trousers[0], 0.75 * trousers[1], 0.75 * trousers[2])
    girth = rng.uniform(0.8, 1.35)
    stride = rng.uniform(0.0, 0.13) if rng.random() < 0.7 else 0.02
    swing = rng.uniform(-1, 1) * stride * 1.2
    parts: list[tuple[Points, Colour]] = []
    for foot, colour in ((-stride, dark), (stride, trousers)):
        knee = foot * 0.6 + 0.3 * abs(foot)
        hip = 0.03 * np.sign(foot or 1)
        parts.append((_limb([(hip, 0.5), (knee, 0.27), (foot, 0.03)], np.array([0.052, 0.042, 0.032]) * girth), colour))
        parts.append((SHOE + np.array([foot, 0.0]), shoe))
    shoulder = 0.085 * girth
    sleeve = shirt if rng.random() < 0.7 else skin
    far_arm = _limb([(shoulder * 0.9, 0.79), (swing, 0.62), (1.5 * swing, 0.46)], np.array([0.03, 0.026, 0.02]))
    parts.append((far_arm, sleeve))
    coat = rng.random() < 0.3
    hem, flare = (0.3, 0.1 * girth) if coat else (0.47, 0.07 * girth)
    torso = np.array(
        [
            [-flare, hem],
            [flare, hem],
            [0.066 * girth, 0.62],
            [shoulder, 0.8],
            [0.03, 0.84],
            [-0.03, 0.84],
            [-shoulder, 0.8],
            [-0.066 * girth, 0.62],
        ]
    )
    parts.append((torso, shirt))
    parts.append(
        (
            _limb(
                [(-shoulder * 0.9, 0.79), (-swing - 0.05, 0.62), (-1.5 * swing, 0.47)], np.array([0.03, 0.027, 0.022])
            ),
            (shirt[0] * 0.8, shirt[1] * 0.8, shirt[2] * 0.8),
        )
    )
    parts += _head(rng, skin, hair)
    if rng.random() < 0.4:
        parts.append(_bag(rng))
    return parts


def _head(rng: np.random.Generator, skin: Colour, hair: Colour) -> list[tuple[Points, Colour]]:
    """Neck, hair and face; some people look away, and some wear a hat."""
    neck = np.array([[-0.022, 0.82], [0.022, 0.82], [0.022, 0.88], [-0.022, 0.88]])
    oval = disc(1.0) * [0.052, 0.068]
    parts = [(neck, skin), (oval + np.array([0.0, 0.932]), hair)]
    if rng.random() < 0.6:
        parts.append((oval * 0.85 + np.array([rng.uniform(-0.012, 0.012), 0.918]), skin))
    if rng.random() < 0.2:
        hat = np.array([[-0.075, 0.955], [0.075, 0.955], [0.045, 0.965], [0.04, 1.02], [-0.04, 1.02], [-0.045, 0.965]])
        parts.append((hat, _cloth(rng)))
    return parts


def _bag(rng: np.random.Generator) -> tuple[Points, Colour]:
    size, up = rng.uniform(0.05, 0.09), rng.choice([0.42, 0.68])
    return np.array([[-1, -1], [1, -1], [0.8, 1], [-0.8, 1]]) * size + [rng.choice([-0.1, 0.1]), up], _cloth(rng)


def _cloth(rng: np.random.Generator) -> Colour:
    if rng.random() < 0.5:
        return hsv(0.6, rng.uniform(0, 0.3), rng.uniform(0.1, 0.85))
    return hsv(rng.random(), rng.uniform(0.3, 0.9), rng.uniform(0.2, 0.9))


def _limb(joints: list[tuple[float, float]], half_widths: Points) -> Points:
    """Outline of a limb through its joints (across, up), with a half width at each joint."""
    line = np.array(joints)
    right = line + np.column_stack([half_widths, np.zeros(len(line))])
    left = line - np.column_stack([half_widths, np.zeros(len(line))])
    return np.vstack([right, left[::-1]])
