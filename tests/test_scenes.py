"""The drawn streets: reproducible, and labels that agree with the picture's geometry."""

import hashlib
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data.labels import IGNORE_INDEX
from data.samples import Sample
from data.sources import SOURCES, Source, SourceError, load_source
from data.sources.scenes import Scenes
from data.sources.scenes.camera import NEAR, SKY_DEPTH
from data.sources.scenes.rendering import DETECTION, LABELS, MIN_PIXELS, MIN_SIDE, SEGMENTATION, Scene
from data.sources.scenes.road_users import SHAPES

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


def test_sources_are_found_by_name_and_a_wrong_name_lists_them() -> None:
    source: type[Source] = load_source("scenes")
    assert source is Scenes
    assert set(SOURCES) >= {"scenes", "masks"}
    with pytest.raises(SourceError, match=r"no source 'scene'.*masks.*scenes"):
        load_source("scene")


def test_ids_and_classes() -> None:
    source = make()
    ids = source.split_ids()
    assert {split: len(names) for split, names in ids.items()} == {"train": 4, "val": 2, "test": 3}
    assert all(len(set(names)) == len(names) and names == sorted(names) for names in ids.values())
    assert source.classes == {"detection": DETECTION, "segmentation": SEGMENTATION}


@pytest.mark.parametrize("key", ["width", "height"])
def test_a_tiny_picture_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=rf"data\.scenes\.{key}: .*greater than or equal to 64, got 63"):
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


@pytest.mark.parametrize(("width", "height"), [(64, 64), (65, 97), (333, 64), (101, 260), (512, 384)])
def test_any_size_works(width: int, height: int) -> None:
    source = make(width=width, height=height)
    for index in range(3):
        scene = source.scene("train", str(index))
        assert scene.image.shape == (height, width, 3)
        assert scene.mask.shape == scene.depth.shape == scene.instances.shape == (height, width)
        assert scene.image.std() > 10
