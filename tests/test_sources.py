"""What holds for every source, and the parts that the outside ones share."""

import os
import pickle
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from outside_data import COUNTS, WRITERS, open_source, picture, save, yolo

from data.degradations import DegradationError, degrade
from data.labels import DatasetError
from data.samples import FaultError, Sample, write_sample
from data.settings import Settings, SplitName
from data.sources import SOURCES, Source
from data.sources.class_map import ClassMap
from data.sources.paths import ImageEntry
from data.sources.splits import list_images


@pytest.fixture(params=sorted(SOURCES))
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    return open_source(request.param, tmp_path, WRITERS[request.param](tmp_path))


def _written(sample: Sample, folder: Path) -> dict[str, bytes]:
    write_sample(folder, sample)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_source_has_a_writer_here() -> None:
    assert set(WRITERS) == set(SOURCES)


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_setting_that_does_not_fit_is_one_line(name: str, tmp_path: Path) -> None:
    assert issubclass(import_module(SOURCES[name].split(":")[0], "data.sources").Settings, Settings)
    settings = WRITERS[name](tmp_path)
    with pytest.raises(DatasetError, match=rf"^data\.{name}\.nmae: unknown key$"):
        open_source(name, tmp_path, settings | {"nmae": "x"})
    key, changes = ("limit.train", {"limit": {"train": 0}}) if "limit" in settings else ("train", {"train": 0})
    with pytest.raises(DatasetError, match=rf"^data\.{name}\.{key}: .*greater than or equal to 1, got 0$"):
        open_source(name, tmp_path, settings | changes)


def test_ids(source: Source) -> None:
    ids = source.split_ids()
    assert {split: len(names) for split, names in ids.items()} == COUNTS
    for names in ids.values():
        assert len(set(names)) == len(names)
        assert not [name for name in names if Path(name).name != name or name.startswith(".")]
    assert source.faults() == []


def test_samples_are_pure_and_the_source_pickles(source: Source, tmp_path: Path) -> None:
    for split, names in source.split_ids().items():
        part = pickle.loads(pickle.dumps(source.part(split, names[-1:])))
        one, other = (s.sample(split, names[-1]) for s in (part, source))
        assert _written(one, tmp_path / f"1{split}") == _written(other, tmp_path / f"2{split}")


def test_labels_fit_the_image_and_the_classes(source: Source) -> None:
    known = {"detection", "segmentation", "instance-segmentation", "classification"}
    assert set(source.classes) <= known
    for split, names in source.split_ids().items():
        for name in names:
            sample = source.sample(split, name)
            assert (sample.id, sample.split) == (name, split)
            assert sample.image.dtype == np.uint8 and sample.image.shape[2] == 3
            _check_boxes(sample.boxes, len(source.classes.get("detection", [])))
            _check_boxes(sample.ignored, len(source.classes.get("detection", [])))
            assert (sample.boxes is not None) == ("detection" in source.classes)
            assert (sample.mask is not None) == bool(source.classes.get("segmentation"))
            if sample.mask is not None:
                assert sample.mask.dtype == np.uint8 and sample.mask.shape == sample.image.shape[:2]
                assert np.isin(sample.mask, [*range(len(source.classes["segmentation"])), 255]).all()
            assert (sample.instances is not None) == ("instance-segmentation" in source.classes)
            assert (sample.category is not None) == ("classification" in source.classes)


def _check_boxes(boxes: np.ndarray | None, classes: int) -> None:
    if boxes is not None and len(boxes):
        low, high = boxes[:, 1:3] - boxes[:, 3:] / 2, boxes[:, 1:3] + boxes[:, 3:] / 2
        assert low.min() >= -1e-9 and high.max() <= 1 + 1e-9 and (boxes[:, 3:] > 0).all()
        assert np.isin(boxes[:, 0], range(classes)).all()


def test_class_map_merges_drops_and_reorders() -> None:
    names = ["car", "truck", "person", "dog"]
    chosen = ClassMap("data.x", names, {"person": ["person"], "vehicle": ["car", "truck"]}, rest="background")
    assert chosen.objects == ["person", "vehicle"] and chosen.pixels == ["background", "person", "vehicle"]
    assert [chosen.object(name) for name in names] == [1, 1, 0, None]
    assert chosen.table(names)[:5].tolist() == [2, 2, 1, 0, 255]
    assert ClassMap("data.x", names, ["dog", "car"]).table(names)[:4].tolist() == [1, 255, 255, 0]
    mixed = ClassMap("data.x", names, ["dog", {"vehicle": ["truck", "car"]}])
    assert mixed.objects == ["dog", "vehicle"] and mixed.object("car") == 1
    placed = ClassMap("data.x", names, {"car": ["car"], "other": []}, rest="other")
    assert placed.pixels == ["car", "other"] and placed.objects == ["car"]


@pytest.mark.parametrize(
    ("names", "chosen", "message"),
    [
        (["car"], ["bus"], r"data\.x\.map: the source has no class bus\. Choose from car"),
        (["car"], {"a": ["car"], "b": ["car"]}, "car is listed twice"),
        (["car"], ["car", {"car": []}], "car is listed twice"),
        (["car", "car"], None, "several classes named car"),
        (["car"], {}, "no class is kept"),
    ],
)
def test_class_maps_that_do_not_fit(names: list[str], chosen: object, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        ClassMap("data.x", names, chosen)  # type: ignore[arg-type]


def _entries(*names: str) -> list[ImageEntry]:
    return [ImageEntry(Path("/data") / name) for name in names]


def test_drawn_splits_depend_on_the_seed_alone_and_have_the_asked_sizes() -> None:
    images = _entries(*(f"{index:03d}.png" for index in range(101)))
    shares: dict[SplitName, float] = {"train": 0.7, "val": 0.1, "test": 0.2}
    drawn = [list_images({"all": images}, shares, {}, "data.x", seed, []).splits for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    sizes = {split: len(entries) for split, entries in drawn[0].items()}
    assert sum(sizes.values()) == 101 and abs(sizes["train"] - 70.7) < 1 and abs(sizes["test"] - 20.2) < 1
    assert len({name for entries in drawn[0].values() for name in entries}) == 101
    backwards = list_images({"all": images[::-1]}, shares, {}, "data.x", 0, []).splits
    assert backwards == drawn[0]


def test_undivided_data_need_shares() -> None:
    with pytest.raises(DatasetError, match=r"data\.x\.split: missing"):
        list_images({"all": _entries("a.png")}, None, {}, "data.x", 0, [])
    with pytest.raises(DatasetError, match=r"data\.x: there is no split train, val or test"):
        list_images({}, None, {}, "data.x", 0, [])


def test_ids_are_safe_names_and_unique_by_path() -> None:
    entries = {"train": _entries("a/x y.png", "b/x.png", "b/X.jpg", "b/x.jpg"), "val": _entries("v/1.png")}
    listing = list_images(entries, None, {}, "data.x", 0, [])
    assert set(listing.splits["val"]) == {"1"} and listing.faults == ()
    files = {image_id: entry.image.name for image_id, entry in listing.splits["train"].items()}
    assert files == {"a__x_y": "x y.png", "b__X": "X.jpg", "b__x.jpg": "x.jpg", "b__x.png": "x.png"}
    names = [image_id.casefold() for image_id in files]
    assert len(set(names)) == len(names) == 4  # also where a file system ignores case


def test_ids_are_short_enough_for_a_file_system_in_any_script() -> None:
    names = "a/" + "街" * 70 + "/" + "灯" * 80 + ".png", "b.png"
    listing = list_images({"train": _entries(*names)}, None, {}, "data.x", 0, [])
    (long,) = set(listing.splits["train"]) - {"b"}
    assert long.endswith("灯" * 50) and len(long.encode()) <= 180


def test_an_image_in_two_splits_is_taken_from_the_training_images() -> None:
    entries = {"train": _entries("a.png", "b.png", "b.png"), "test": _entries("a.png")}
    listing = list_images(entries, None, {}, "data.x", 0, [])
    assert {split: list(entries) for split, entries in listing.splits.items()} == {"train": ["b"], "test": ["a"]}
    assert [(fault.file, fault.fault) for fault in listing.faults] == [
        ("/data/a.png", "image in two splits: train and test"),
        ("/data/b.png", "image listed twice: in split train"),
    ]


def test_an_image_in_two_splits_does_no_harm_where_splits_are_drawn() -> None:
    entries = {"train": _entries("a.png", "b.png"), "val": _entries("a.png", "b.png")}
    listing = list_images(entries, {"train": 0.5, "val": 0.5}, {}, "data.x", 0, [])
    assert sorted(name for entries in listing.splits.values() for name in entries) == ["a", "b"]
    assert [fault.fault.partition(":")[0] for fault in listing.faults] == ["splits of the files"]
    assert not any(fault.is_bad for fault in listing.faults)


def test_limit_thins_evenly() -> None:
    entries = {"train": _entries(*(f"{index}.png" for index in range(9))), "val": _entries("a.png")}
    listing = list_images(entries, None, {"train": 3, "val": None}, "data.x", 0, [])
    assert list(listing.splits["train"]) == ["0", "4", "8"] and list(listing.splits["val"]) == ["a"]


def test_an_image_too_small_to_be_degraded_is_a_fault(tmp_path: Path) -> None:
    settings = yolo(tmp_path)
    save(tmp_path / "images" / "train" / "0.png", picture(1)[:31])
    with pytest.raises(FaultError, match=r"train/0\.png: image too small: 60 x 31; expected 32 x 32 pixels or more"):
        open_source("yolo", tmp_path, settings).sample("train", "0")
    with pytest.raises(DegradationError, match="32 pixels or more"):
        degrade(picture(1)[:31], "fog", 3, 0)


def test_a_part_is_small(tmp_path: Path) -> None:
    source = open_source("yolo", tmp_path, yolo(tmp_path))
    part = source.part("train", ["0"])
    assert part.split_ids() == {"train": ["0"]}
    assert os.fspath(tmp_path / "images" / "train" / "1.png").encode() not in pickle.dumps(part)
