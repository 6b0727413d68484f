"""The drawn streets: reproducible, and labels that agree with the picture's geometry."""

import hashlib
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data.manifest import IGNORE_INDEX, Sample
from data.sources import SOURCES, Source, load_source
from data.sources.scenes import Scenes
from data.sources.scenes.camera import NEAR, Camera, clip_near
from data.sources.scenes.cars import SHAPES, car_body
from data.sources.scenes.composer import DETECTION, LABELS, MIN_PIXELS, MIN_SIDE, SEGMENTATION, Scene, render
from data.sources.scenes.facades import draw_styles
from data.sources.scenes.faces import Body, Face, back_to_front, ground_quad
from data.sources.scenes.layout import FAR, Street
from data.sources.scenes.light import draw_light
from data.sources.scenes.people import person_body
from data.sources.scenes.raster import SKY_DEPTH
from data.sources.scenes.shading import Walls

ROOT = Path(__file__).parents[1]
SETTINGS = {"width": 256, "height": 192, "train": 4, "val": 2, "test": 3}


def make(seed: int = 0, **settings: int) -> Scenes:
    return Scenes(Path(), SETTINGS | settings, seed)


def digest(sample: Sample) -> str:
    assert sample.boxes is not None and sample.mask is not None and sample.depth is not None
    arrays = (sample.image, sample.boxes, sample.mask, sample.depth)
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    source = make()
    return [source.scene("train", str(index)) for index in range(50)]


def level_camera(width: int = 256, height: int = 192) -> Camera:
    return Camera(width, height, focal=240.0, horizon=80.0, x=0.0, eye_height=1.5, yaw=0.0)


def draw(bodies: list[Body], camera: Camera) -> Scene:
    """Bodies on an endless road, with no buildings."""
    rng = np.random.default_rng(0)
    road = Body(LABELS["road"], [Face(ground_quad(-400, 400, -40, 420), (0.1, 0.1, 0.1))], shadow=False)
    walls = Walls((9.0, 9.0), np.zeros((2, 200), np.float32), 0.0)
    return render([road], bodies, draw_styles(rng, [1.0]), walls, camera, draw_light(rng), rng)


def test_sources_are_found_by_name_and_a_wrong_name_lists_them() -> None:
    source: type[Source] = load_source("scenes")
    assert source is Scenes
    assert set(SOURCES) >= {"scenes", "masks"}
    with pytest.raises(KeyError, match=r"no source 'scene'.*masks.*scenes"):
        load_source("scene")


def test_ids_and_classes() -> None:
    source = make()
    ids = source.split_ids()
    assert {split: len(names) for split, names in ids.items()} == {"train": 4, "val": 2, "test": 3}
    assert all(len(set(names)) == len(names) and names == sorted(names) for names in ids.values())
    assert source.classes == {"detection": DETECTION, "segmentation": SEGMENTATION}
    assert make(test=0).split_ids().keys() == {"train", "val"}


@pytest.mark.parametrize("key", ["width", "height"])
def test_a_tiny_picture_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=f"{key} is 63"):
        make(**{key: 63})


def test_sample_is_canonical() -> None:
    sample = make().sample("val", "00001")
    assert sample.image.shape == (192, 256, 3) and sample.image.dtype == np.uint8
    assert sample.mask is not None and sample.mask.shape == (192, 256) and sample.mask.dtype == np.uint8
    assert sample.depth is not None and sample.depth.shape == (192, 256) and sample.depth.dtype == np.float32
    assert sample.boxes is not None and sample.boxes.dtype == np.float64 and sample.boxes.shape[1] == 5
    assert (sample.id, sample.split) == ("00001", "val")


def test_same_bytes_in_another_process_and_in_any_order() -> None:
    here = make()
    backwards = [digest(here.sample("train", name)) for name in ("00003", "00002")]
    code = (
        "from tests.test_scenes import digest, make; s = make();"
        "print(*[digest(s.sample('train', n)) for n in ('00002', '00003')])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == backwards[::-1]


def test_pickled_source_draws_the_same() -> None:
    source = make()
    copy = pickle.loads(pickle.dumps(source))
    assert digest(copy.sample("test", "00002")) == digest(source.sample("test", "00002"))


def test_seed_split_and_id_each_change_the_scene() -> None:
    samples = [
        make().sample("train", "00000"),
        make(1).sample("train", "00000"),
        make().sample("val", "00000"),
        make().sample("train", "00001"),
    ]
    assert len({sample.image.tobytes() for sample in samples}) == 4


def test_more_scenes_do_not_change_those_that_were_there() -> None:
    assert digest(make(train=400).sample("train", "00001")) == digest(make().sample("train", "00001"))


def test_global_random_state_is_neither_read_nor_written() -> None:
    before = np.random.get_state()[1].copy()  # type: ignore[union-attr, index]
    first = digest(make().sample("train", "00000"))
    assert np.array_equal(before, np.random.get_state()[1])  # type: ignore[index]
    state = np.random.get_state()
    np.random.seed(7)
    assert digest(make().sample("train", "00000")) == first
    np.random.set_state(state)


def test_boxes_are_exactly_those_of_the_visible_instances(scenes: list[Scene]) -> None:
    checked = 0
    for scene in scenes:
        height, width = scene.instances.shape
        expected = []
        for number in range(1, scene.instances.max() + 1):
            rows, columns = np.where(scene.instances == number)
            if len(rows) < MIN_PIXELS or min(np.ptp(rows), np.ptp(columns)) + 1 < MIN_SIDE:
                continue
            labels = np.unique(scene.mask[rows, columns])
            assert len(labels) == 1
            x0, x1 = columns.min() / width, (columns.max() + 1) / width
            y0, y1 = rows.min() / height, (rows.max() + 1) / height
            name = SEGMENTATION[labels[0]]
            expected.append([DETECTION.index(name), (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0])
        assert len(expected) == len(scene.boxes)
        np.testing.assert_allclose(np.array(expected).reshape(-1, 5), scene.boxes, atol=1e-12)
        checked += len(expected)
    assert checked > 100


def test_instances_are_the_things_of_the_mask(scenes: list[Scene]) -> None:
    things = [LABELS[name] for name in DETECTION]
    for scene in scenes:
        assert np.array_equal(scene.instances > 0, np.isin(scene.mask, things))


def test_boxes_lie_inside_the_picture(scenes: list[Scene]) -> None:
    boxes = np.concatenate([scene.boxes for scene in scenes])
    low, high = boxes[:, 1:3] - boxes[:, 3:] / 2, boxes[:, 1:3] + boxes[:, 3:] / 2
    assert low.min() >= -1e-12 and high.max() <= 1 + 1e-12


def test_every_class_occurs_and_none_drowns_the_rest(scenes: list[Scene]) -> None:
    counts = np.bincount(np.concatenate([scene.mask.ravel() for scene in scenes]), minlength=256)
    share = counts / counts.sum()
    assert set(np.flatnonzero(counts)) <= {*LABELS.values(), IGNORE_INDEX}
    assert share[: len(SEGMENTATION)].min() > 0.005 and share.max() < 0.5 and share[IGNORE_INDEX] < 0.1
    things = np.bincount(np.concatenate([scene.boxes[:, 0] for scene in scenes]).astype(int), minlength=3)
    assert things.min() > 50
    assert np.mean([len(scene.boxes) for scene in scenes]) > 4


def test_things_come_in_many_sizes_and_the_light_varies(scenes: list[Scene]) -> None:
    boxes = np.concatenate([scene.boxes for scene in scenes])
    longer = np.maximum(boxes[:, 3] * 256, boxes[:, 4] * 192)
    assert np.percentile(longer, 10) < 14 and np.percentile(longer, 90) > 50
    assert np.std([scene.image.mean() for scene in scenes]) > 10


def test_sky_is_far_and_nothing_is_farther(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert np.isfinite(scene.depth).all()
        assert scene.depth.min() > NEAR and scene.depth.max() <= np.float32(SKY_DEPTH)
        assert (scene.depth[scene.mask == LABELS["sky"]] == np.float32(SKY_DEPTH)).all()


def test_depth_within_a_thing_spans_no_more_than_its_size(scenes: list[Scene]) -> None:
    longest = max(shape.length for shape in SHAPES.values()) + 0.5
    for scene in scenes:
        for number in np.unique(scene.instances[scene.instances > 0]):
            own = scene.instances == number
            limit = longest if scene.mask[own][0] == LABELS["car"] else 1.0
            assert np.ptp(scene.depth[own]) <= limit


def test_road_comes_nearer_downwards_in_every_column(scenes: list[Scene]) -> None:
    for scene in scenes:
        road = scene.mask == LABELS["road"]
        both = road[1:] & road[:-1]
        assert (np.diff(scene.depth, axis=0)[both] < 0).all()


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


@pytest.mark.parametrize(("width", "height"), [(64, 64), (65, 97), (333, 64), (101, 260), (512, 384)])
def test_any_size_works(width: int, height: int) -> None:
    source = make(width=width, height=height)
    for index in range(3):
        scene = source.scene("train", str(index))
        assert scene.image.shape == (height, width, 3)
        assert scene.mask.shape == scene.depth.shape == scene.instances.shape == (height, width)
        assert scene.image.std() > 10
