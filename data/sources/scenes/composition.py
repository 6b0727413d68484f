"""What stands in a scene, and where: cars, people, signs and plants at metric positions."""

from dataclasses import dataclass, field

import numpy as np

from ...labels import IGNORE_INDEX
from .buildings import build_buildings
from .camera import Camera
from .rendering import LABELS, Scene, draw_light, render
from .road_users import build_car, build_person
from .street import (
    Street,
    build_bush,
    build_clutter,
    build_ground,
    build_hedge,
    build_sign,
    build_tree,
    draw_street,
    sign_of,
)
from .surfaces import Body

TRIES = 25  # random positions tried for each object


@dataclass
class Plan:
    """The bodies placed in a street so far, and the ground that they occupy."""

    rng: np.random.Generator
    camera: Camera
    street: Street
    taken: list[tuple[float, float, float, float]] = field(default_factory=list)
    bodies: list[Body] = field(default_factory=list)

    def fits(self, x: float, z: float, half_x: float, half_z: float) -> bool:
        """Reserve a rectangle on the ground if it is free. All arguments are in metres.

        Returns:
            whether it is free, before the street's end, and at least a metre away from the camera.
        """
        left, near, right, far = x - half_x, z - half_z, x + half_x, z + half_z
        if far > self.street.end - 1 or (abs(x - self.camera.x) < half_x + 1.0 and near < 2.0):
            return False
        if any(left < x1 and right > x0 and near < z1 and far > z0 for x0, z0, x1, z1 in self.taken):
            return False
        self.taken.append((left, near, right, far))
        return True

    def seen_spot(self, nearest: float, farthest: float) -> tuple[float, float]:
        """(x, z) of a random spot in view, its depth log-uniform between `nearest` and `farthest` metres."""
        depth = np.exp(self.rng.uniform(np.log(nearest), np.log(min(farthest, self.street.end - 5))))
        return self.camera.street_position(self.rng.uniform(-0.03, 1.03) * self.camera.width, float(depth))

    def in_view(self, x: float, z: float, margin: float = 6.0) -> bool:
        """Whether a spot is in the picture, or at most `margin` metres beside it."""
        right, _, depth = self.camera.to_camera(np.array([x, 0.0, z]))
        return bool(depth > 2 and abs(right) < depth * self.camera.width / (2 * self.camera.focal) + margin)

    def kerb_spot(self, side: int, inward: float) -> tuple[float, float]:
        """(x, z) of a random spot in view, `inward` metres from the kerb of a side towards the middle of the road."""
        _, z = self.seen_spot(6, 75)
        return sign_of(side) * (self.street.road - inward), z

    def is_pavement(self, x: float, z: float) -> bool:
        """Whether a spot lies on the pavement or the grass, and not on the crossing street."""
        side = int(x > 0)
        return self.street.road + 0.3 < abs(x) < self.street.wall(side) - 0.4 and not self.street.crossed(z)


def draw_camera(rng: np.random.Generator, width: int, height: int, street: Street) -> Camera:
    """Draw a camera at eye level, on the road or the pavement, that looks more or less along the street."""
    size = np.sqrt(width * height)
    reach = street.road + 1.2
    x = float(rng.uniform(-reach, reach))
    inward = -np.sign(x) * rng.uniform(0, 0.5) if rng.random() < 0.4 else rng.uniform(-0.3, 0.3)
    return Camera(
        width=width,
        height=height,
        focal=float(size * rng.uniform(0.85, 1.35)),
        horizon=float(height * rng.uniform(0.36, 0.56)),
        x=x,
        eye_height=float(rng.uniform(1.35, 1.75)),
        yaw=float(inward),
    )


def compose(rng: np.random.Generator, width: int, height: int) -> Scene:
    """Draw a scene of width x height pixels: place everything in a street and render it."""
    street = draw_street(rng)
    camera = draw_camera(rng, width, height, street)
    light = draw_light(rng)
    backdrop = build_ground(rng, street, LABELS)
    buildings, styles, walls = build_buildings(rng, street, camera, LABELS)
    plan = Plan(rng, camera, street)
    _add_parked_cars(plan)
    _add_moving_cars(plan)
    _add_signs(plan)
    _add_plants(plan)
    _add_people(plan)
    _add_clutter(plan)
    return render([*backdrop, *buildings], plan.bodies, styles, walls, camera, light, rng)


def _add_parked_cars(plan: Plan) -> None:
    rng = plan.rng
    for side in (0, 1):
        for _ in range(int(rng.integers(0, 6)) if rng.random() < 0.8 else 0):
            x, z = plan.kerb_spot(side, inward=1.1)
            heading = np.pi * (side == 0) + rng.normal(0, 0.03)
            if plan.fits(x, z, 1.1, 2.75):
                plan.bodies.append(build_car(rng, x, z, float(heading), plan.camera.eye, LABELS["car"]))


def _add_moving_cars(plan: Plan) -> None:
    """Add cars that drive ahead, come towards the camera, cross the street or turn."""
    rng = plan.rng
    for _ in range(int(rng.integers(1, 7))):
        turns = [0.0, np.pi, np.pi / 2, -np.pi / 2, rng.uniform(-np.pi, np.pi)]
        turn = rng.choice(turns, p=[0.3, 0.35, 0.12, 0.12, 0.11])
        across = abs(np.sin(turn))
        half_x, half_z = 1.1 + 1.6 * across, 2.7 - 1.6 * across + 1.0 * np.sin(2 * turn) ** 2
        for _ in range(TRIES):
            x, z = plan.seen_spot(8, 75)
            if abs(x) < plan.street.road - 0.8 and plan.fits(x, z, half_x, half_z):
                heading = float(turn + rng.normal(0, 0.06))
                plan.bodies.append(build_car(rng, x, z, heading, plan.camera.eye, LABELS["car"]))
                break


def _add_signs(plan: Plan) -> None:
    rng = plan.rng
    for _ in range(int(rng.integers(1, 6))):
        for _ in range(TRIES):
            x, z = plan.seen_spot(4, 40)
            if plan.is_pavement(x, z) and abs(x) < plan.street.road + 2.5 and plan.fits(x, z, 0.35, 0.2):
                plan.bodies += build_sign(rng, x, z, plan.camera.eye, LABELS["traffic_sign"], IGNORE_INDEX)
                break


def _add_people(plan: Plan) -> None:
    """Add people: most on the pavement, some on the road, some with a companion."""
    rng = plan.rng
    for _ in range(int(rng.integers(1, 8))):
        on_road = rng.random() < 0.25
        for _ in range(TRIES):
            x, z = plan.seen_spot(4, 45)
            walkable = plan.is_pavement(x, z) != on_road and abs(x) < plan.street.wall(int(x > 0))
            if not walkable or not plan.fits(x, z, 0.3, 0.3):
                continue
            plan.bodies.append(build_person(rng, x, z, plan.camera.eye, LABELS["person"]))
            side = x + rng.choice([-0.65, 0.65])
            has_companion = rng.random() < 0.4 and abs(side) < plan.street.wall(int(side > 0)) - 0.3
            if has_companion and plan.fits(side, z + 0.05, 0.3, 0.3):
                plan.bodies.append(build_person(rng, side, z + 0.05, plan.camera.eye, LABELS["person"]))
            break


def _add_clutter(plan: Plan) -> None:
    rng = plan.rng
    for _ in range(int(rng.integers(2, 12))):
        for _ in range(TRIES):
            x, z = plan.seen_spot(4, 50)
            if plan.is_pavement(x, z) and plan.fits(x, z, 0.7, 1.2):
                plan.bodies.append(build_clutter(rng, x, z, plan.camera.eye, IGNORE_INDEX))
                break


def _add_plants(plan: Plan) -> None:
    """Add street trees on both sides, and hedges and shrubs on sides without a terrace of houses."""
    for side in (0, 1):
        _add_street_trees(plan, side)
        if plan.street.frontage[side] != "terrace":
            _add_hedges(plan, side)
            _add_shrubs(plan, side)


def _add_street_trees(plan: Plan, side: int) -> None:
    rng, street = plan.rng, plan.street
    for _ in range(int(rng.integers(0, 5))):
        x = sign_of(side) * (street.road + 0.8)
        _, z = plan.seen_spot(6, 80)
        if plan.in_view(x, z) and not street.crossed(z) and plan.fits(x, z, 0.4, 0.4):
            plan.bodies.append(build_tree(rng, x, z, plan.camera.eye, LABELS["vegetation"]))


def _add_hedges(plan: Plan, side: int) -> None:
    rng, street = plan.rng, plan.street
    x = sign_of(side) * (street.kerb(side) + 0.5)
    for start in np.arange(0.0, street.end - 10, 9.0):
        middle = start + 4
        is_wanted = rng.random() < 0.5 and not street.crossed(middle, margin=7.0) and start < 90
        if is_wanted and plan.fits(x, middle, 0.5, 4.0):
            plan.bodies.append(build_hedge(rng, x, middle, 8.0, plan.camera.eye, LABELS["vegetation"]))


def _add_shrubs(plan: Plan, side: int) -> None:
    rng, street = plan.rng, plan.street
    count, farthest = (14, 30.0) if street.frontage[side] == "park" else (2, max(1.6, street.verge[side]))
    for _ in range(count):
        reach = rng.uniform(1.5, farthest)
        x, z = sign_of(side) * (street.kerb(side) + reach), plan.seen_spot(6, 90)[1]
        if plan.in_view(x, z) and not street.crossed(z) and plan.fits(x, z, 0.6, 0.6):
            build = build_tree if rng.random() < 0.7 else build_bush
            plan.bodies.append(build(rng, x, z, plan.camera.eye, LABELS["vegetation"]))
