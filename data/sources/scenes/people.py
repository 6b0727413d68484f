"""People: jointed flat figures that stand, walk or carry something, turned towards the camera."""

import numpy as np

from data.sources.scenes.faces import Body, Colour, Face, Points, disc, hsv, stand

SHOE = np.array([[-0.03, 0.0], [0.06, 0.0], [0.05, 0.04], [-0.03, 0.045]])


def build_person(rng: np.random.Generator, x: float, z: float, eye: Points, label: int) -> Body:
    """A child or grown-up at (x, z)."""
    height = rng.uniform(1.0, 1.45) if rng.random() < 0.15 else rng.uniform(1.55, 1.95)
    return person_body(rng, float(height), x, z, eye, label)


def person_body(rng: np.random.Generator, height: float, x: float, z: float, eye: Points, label: int) -> Body:
    """A person `height` metres tall, from the soles (y = 0) to the crown of the head or hat."""
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
    """Neck, hair and face; half of the people look away, some wear a hat."""
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
    """A limb through its joints (across, up), as wide as `half_widths` says at each."""
    line = np.array(joints)
    right = line + np.column_stack([half_widths, np.zeros(len(line))])
    left = line - np.column_stack([half_widths, np.zeros(len(line))])
    return np.vstack([right, left[::-1]])
