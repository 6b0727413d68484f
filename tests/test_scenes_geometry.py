"""The geometry of the scenes: what the formulas of a pin-hole camera demand."""

import numpy as np
import pytest

from data.sources.scenes.buildings import Walls, draw_styles
from data.sources.scenes.camera import NEAR, Camera, clip_near
from data.sources.scenes.rendering import LABELS, Scene, draw_light, render
from data.sources.scenes.road_users import SHAPES, car_body, person_body
from data.sources.scenes.street import FAR, Street
from data.sources.scenes.surfaces import Body, Face, back_to_front, ground_quad


def level_camera(width: int = 256, height: int = 192) -> Camera:
    return Camera(width, height, focal=240.0, horizon=80.0, x=0.0, eye_height=1.5, yaw=0.0)


def draw(bodies: list[Body], camera: Camera) -> Scene:
    """Bodies on an endless road, with no buildings."""
    rng = np.random.default_rng(0)
    road = Body(LABELS["road"], [Face(ground_quad(-400, 400, -40, 420), (0.1, 0.1, 0.1))], shadow=False)
    walls = Walls((9.0, 9.0), np.zeros((2, 200), np.float32), 0.0)
    return render([road], bodies, draw_styles(rng, [1.0]), walls, camera, draw_light(rng), rng)


def test_ground_depth_is_focal_times_eye_height_over_rows_below_the_horizon() -> None:
    camera = level_camera()
    scene = draw([], camera)
    rows = np.arange(camera.height)
    below = rows > camera.horizon + 2
    expected = camera.focal * camera.eye_height / (rows[below] + 0.5 - camera.horizon)
    assert (scene.mask[below] == LABELS["road"]).all()
    np.testing.assert_allclose(scene.depth[below], np.broadcast_to(expected[:, None], (below.sum(), 256)), rtol=1e-4)
    assert (scene.mask[rows < camera.horizon - 1] == LABELS["sky"]).all()


@pytest.mark.parametrize("yaw", [0.0, 0.4])
def test_ground_depth_does_not_depend_on_the_direction(yaw: float) -> None:
    camera = Camera(120, 90, 100.0, 40.0, 1.3, 1.6, yaw)
    scene = draw([], camera)
    expected = camera.focal * camera.eye_height / (80.5 - camera.horizon)
    np.testing.assert_allclose(scene.depth[80], expected, rtol=1e-4)


@pytest.mark.parametrize("depth", [6.0, 12.0, 30.0])
@pytest.mark.parametrize("height", [1.2, 1.8])
def test_person_spans_focal_times_height_over_depth(depth: float, height: float) -> None:
    camera = level_camera()
    # A person turns by up to 20 degrees, which moves its outermost parts by up to 0.2 m in depth.
    scene = draw([person_body(np.random.default_rng(3), height, 0.0, depth, camera.eye, LABELS["person"])], camera)
    rows, columns = np.where(scene.instances == 1)
    assert abs(np.ptp(rows) + 1 - camera.focal * height / depth) <= 1.5
    assert abs(rows.max() + 1 - (camera.horizon + camera.focal * camera.eye_height / depth)) <= 1.5
    assert np.abs(scene.depth[rows, columns] - depth).max() < 0.3


@pytest.mark.parametrize("name", list(SHAPES))
def test_car_seen_from_the_side_has_its_size_and_depth(name: str) -> None:
    camera, shape, depth = level_camera(), SHAPES[name], 14.0
    body = car_body(shape, (0.5, 0.1, 0.1), 0.0, depth, np.pi / 2, camera.eye, LABELS["car"])
    rows, columns = np.where(draw([body], camera).instances == 1)
    flank = depth - shape.width / 2
    assert abs(np.ptp(columns) + 1 - camera.focal * shape.length / flank) <= 2
    bottom = camera.horizon + camera.focal * camera.eye_height / flank
    assert abs(rows.max() + 1 - bottom) <= 1.5
    roof_near, roof_far = depth - 0.78 * shape.width / 2, depth + 0.78 * shape.width / 2
    rise = camera.eye_height - shape.height
    top = camera.horizon + camera.focal * min(rise / roof_near, rise / roof_far)
    assert abs(rows.min() - top) <= 1.5


def test_car_depth_is_that_of_its_visible_sides() -> None:
    camera, shape = level_camera(), SHAPES["estate"]
    scene = draw([car_body(shape, (0.5, 0.1, 0.1), 0.0, 15.0, 0.0, camera.eye, LABELS["car"])], camera)
    depth = scene.depth[scene.instances == 1]
    assert 15 - shape.length / 2 - 0.01 <= depth.min() < 15 - shape.length / 2 + 0.3
    assert depth.max() <= 15 + shape.length / 2


def test_nearer_thing_hides_the_farther_and_shortens_its_box() -> None:
    camera, rng = level_camera(), np.random.default_rng(5)
    person = person_body(rng, 1.8, 0.0, 13.0, camera.eye, LABELS["person"])
    car = car_body(SHAPES["saloon"], (0.2, 0.2, 0.5), 0.0, 10.0, np.pi / 2, camera.eye, LABELS["car"])
    alone, hidden = draw([person], camera), draw([person, car], camera)
    assert 0 < (hidden.mask == LABELS["person"]).sum() < (alone.mask == LABELS["person"]).sum()
    assert hidden.boxes[hidden.boxes[:, 0] == 1][0, 4] < alone.boxes[0, 4]


def test_long_near_car_is_drawn_before_the_person_beside_its_far_flank() -> None:
    eye = np.array([0.0, 1.5, 0.0])
    car = Body(5, [], (2.0, 8.0, 4.0, 14.0))
    beyond, ahead = Body(6, [], (4.5, 9.0, 5.0, 9.5)), Body(6, [], (2.5, 6.0, 3.0, 6.5))
    for bodies in ([car, beyond, ahead], [ahead, car, beyond], [beyond, ahead, car]):
        order = back_to_front(bodies, eye)
        assert [id(body) for body in order] == [id(beyond), id(car), id(ahead)]


def test_polygon_is_cut_at_the_near_plane() -> None:
    square = np.array([[-1.0, 1.0, -1.0], [1.0, 1.0, -1.0], [1.0, 1.0, 3.0], [-1.0, 1.0, 3.0]])
    cut = clip_near(square)
    assert cut[:, 2].min() == pytest.approx(NEAR) and cut[:, 2].max() == 3.0 and len(cut) == 4
    assert len(clip_near(square - [0, 0, 10.0])) == 0


def test_street_position_is_where_the_camera_sees_it() -> None:
    camera = Camera(200, 150, 180.0, 70.0, -1.2, 1.5, 0.35)
    x, z = camera.street_position(33.0, 17.0)
    eyed = camera.to_camera(np.array([x, 0.0, z]))
    assert eyed[2] == pytest.approx(17.0)
    assert camera.project(eyed)[0] == pytest.approx(33.0)


def test_street_is_crossed_only_where_there_is_a_crossing() -> None:
    street = Street(4.0, (2.0, 2.0), (0.0, 0.0), ("terrace", "terrace"), 30.0, 4.0, FAR)
    assert street.crossed(30.0) and street.crossed(34.5) and not street.crossed(36.0)
