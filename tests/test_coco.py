import json
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from faster_coco_eval import COCO
from faster_coco_eval.core import mask as reference
from outside_data import HEIGHT, WIDTH
from outside_data import coco as write_coco

from data.labels import DatasetError, decode_mask
from data.samples import FaultError
from data.sources.coco import Coco

COCO128 = Path(__file__).parents[1].parent / "shared" / "coco128"
SHARES = {"train": 0.5, "val": 0.2, "test": 0.3}
needs_coco128 = pytest.mark.skipif(not COCO128.is_dir(), reason="../shared/coco128 is not here")


def _coco128(**settings: Any) -> Coco:
    files = {"all": {"json": "instances.json", "images": "images"}}
    given = {"name": "coco128", "files": files, "split": SHARES, "masks": True, "rest": "background", "category": False}
    return Coco(COCO128, {**given, **settings}, 0)


def test_boxes_crowds_masks_instances_and_category(tmp_path: Path) -> None:
    source = Coco(tmp_path, write_coco(tmp_path), 0)
    assert source.classes == {
        "detection": ["car", "dog"],
        "segmentation": ["background", "car", "dog"],
        "instance-segmentation": ["car", "dog"],
        "classification": ["car", "dog"],
    }
    assert source.split_ids()["val"] == ["0", "1"]
    sample = source.sample("val", "0")
    assert sample.boxes is not None and sample.ignored is not None
    assert sample.boxes.tolist() == [
        [1, 26 / WIDTH, 14 / HEIGHT, 4 / WIDTH, 4 / HEIGHT],
        [0, 26 / WIDTH, 15 / HEIGHT, 12 / WIDTH, 10 / HEIGHT],
    ]
    assert sample.ignored.tolist() == [[0, 45 / WIDTH, 0.5, 10 / WIDTH, 1]]
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[:, 40:50] = 1  # the crowd
    expected[10:20, 20:32] = 1
    expected[12:16, 24:28] = 2  # the smaller object lies on top
    assert sample.mask is not None and np.array_equal(sample.mask, expected)
    assert sample.instances is not None
    assert [(i.category, i.crowd) for i in sample.instances] == [(1, False), (0, False), (0, True)]
    assert sample.category == 0


def test_classes_are_chosen_by_name_and_images_without_a_category_left_out(tmp_path: Path) -> None:
    settings = write_coco(tmp_path)
    source = Coco(tmp_path, {**settings, "map": ["dog"]}, 0)
    sample = source.sample("train", "0")
    assert sample.boxes is not None and len(sample.boxes) == 1
    assert sample.mask is not None and np.unique(sample.mask).tolist() == [0, 1]
    content = json.loads((tmp_path / "train.json").read_text())
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] != 1]
    (tmp_path / "train.json").write_text(json.dumps(content))
    assert Coco(tmp_path, settings, 0).split_ids()["train"] == ["0", "2"]
    assert Coco(tmp_path, {**settings, "category": False}, 0).split_ids()["train"] == ["0", "1", "2"]


def test_boxes_alone(tmp_path: Path) -> None:
    source = Coco(tmp_path, {**write_coco(tmp_path), "masks": False, "category": False}, 0)
    assert source.classes == {"detection": ["car", "dog"]}
    sample = source.sample("train", "0")
    assert sample.mask is None and sample.instances is None and sample.boxes is not None


FAULTS: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("class", lambda entry: entry.update(category_id=5), "class out of range: category_id 5 is not among the"),
    ("outside", lambda entry: entry.update(bbox=[50, 12, 40, 4]), "box outside the image: (50, 12, 90, 16) in 60 x 40"),
    ("no area", lambda entry: entry.update(bbox=[24, 12, 0, 4]), "box without area: (24, 12, 24, 16)"),
    ("not a number", lambda entry: entry.update(bbox=[24, 12, float("nan"), 4]), "box that is no number"),
    ("not a box", lambda entry: entry.update(bbox=[24, 12]), "malformed box: [24, 12]; expected [x, y, width, height]"),
    ("odd", lambda entry: entry.update(segmentation=[[1, 2, 3, 4, 5]]), "malformed outline: a polygon of 5 numbers"),
    ("nan", lambda entry: entry.update(segmentation=[[1, 2, 3, float("nan"), 5, 6]]), "a corner that is no number"),
    ("empty", lambda entry: entry.update(segmentation=[]), "malformed outline: no polygon"),
    ("absent", lambda entry: entry.pop("segmentation"), "no outline: set data.coco.masks to false"),
    ("far", lambda entry: entry.update(segmentation=[[1, 1, 90, 1, 90, 9]]), "outline outside the image: 1 to 90"),
    (
        "run lengths of another size",
        lambda entry: entry.update(segmentation={"size": [4, 5], "counts": [20]}),
        "size differs: run lengths of [4, 5], image of [40, 60]",
    ),
    (
        "too long",
        lambda entry: entry.update(segmentation={"size": [HEIGHT, WIDTH], "counts": [0, 9999]}),
        "malformed outline: RLE counts exceed",
    ),
    (
        "text that is no code",
        lambda entry: entry.update(segmentation={"size": [HEIGHT, WIDTH], "counts": "~~~~~"}),
        "malformed outline: Invalid RLE",
    ),
    (
        "nothing covered",
        lambda entry: entry.update(segmentation={"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}),
        "outline without area",
    ),
]


@pytest.mark.parametrize(("change", "text"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
def test_a_bad_annotation_is_named(tmp_path: Path, change: Callable[[dict[str, Any]], object], text: str) -> None:
    settings = write_coco(tmp_path)
    content = json.loads((tmp_path / "val.json").read_text())
    change(content["annotations"][0])
    (tmp_path / "val.json").write_text(json.dumps(content))
    with pytest.raises(FaultError) as caught:
        Coco(tmp_path, {**settings, "category": False}, 0).sample("val", "0")
    (fault,) = caught.value.faults
    assert fault.file == f"{tmp_path}/val.json: 0.jpg: annotation 1" and text in fault.fault


STRANGE = [None, True, -1, 1e400, "x", [], {}, [[]], [None], [[None] * 6], {"size": 5, "counts": 5}, ["a", 1, 2, 3]]


@pytest.mark.parametrize("field", ["bbox", "segmentation", "category_id", "image_id"])
@pytest.mark.parametrize("value", STRANGE, ids=[json.dumps(value) for value in STRANGE])
def test_values_of_any_kind_are_faults_and_not_tracebacks(tmp_path: Path, field: str, value: object) -> None:
    settings = write_coco(tmp_path)
    content = json.loads((tmp_path / "val.json").read_text())
    content["annotations"][0][field] = value
    (tmp_path / "val.json").write_text(json.dumps(content))
    source = Coco(tmp_path, {**settings, "category": False}, 0)
    faults = source.faults()
    no_box = field == "bbox" and value in (None, [])  # without a box, that of the outline is taken
    if field != "image_id" and not no_box:
        with pytest.raises(FaultError) as caught:
            source.sample("val", "0")
        faults.extend(caught.value.faults)
    assert len(faults) == (0 if no_box else 1)


@pytest.mark.parametrize("name", ["../x.jpg", "/etc/x.jpg", "a\\..\\..\\x.jpg", "", "x\0.jpg", 5, None])
def test_names_that_are_no_files_in_the_folder(tmp_path: Path, name: object) -> None:
    settings = write_coco(tmp_path)
    content = json.loads((tmp_path / "val.json").read_text())
    content["images"][0]["file_name"] = name
    (tmp_path / "val.json").write_text(json.dumps(content))
    source = Coco(tmp_path, settings, 0)
    assert source.split_ids()["val"] == ["1"] and source.faults()[0].fault.startswith("unusable entry: id 100, ")


def test_a_part_does_not_carry_the_whole_file(tmp_path: Path) -> None:
    source = Coco(tmp_path, write_coco(tmp_path), 0)
    part = pickle.dumps(source.part("train", ["0"]))
    assert b"2.jpg" in pickle.dumps(source) and b"2.jpg" not in part


def test_bad_entries_and_names_that_leave_the_folder(tmp_path: Path) -> None:
    settings = write_coco(tmp_path)
    content = json.loads((tmp_path / "val.json").read_text())
    content["images"][0]["file_name"] = "../../secret.jpg"
    content["images"].append(dict(content["images"][1]))
    content["annotations"] += [{"id": 99, "image_id": 4711}, {"id": 100}]
    (tmp_path / "val.json").write_text(json.dumps(content))
    source = Coco(tmp_path, settings, 0)
    assert source.split_ids()["val"] == ["1"]
    assert [(Path(fault.file).name, fault.fault) for fault in source.faults()] == [
        ("val.json: annotations[7]", "label without image: it has no image_id"),
        ("val.json: images[0]", "unusable entry: id 100, '../../secret.jpg'"),
        ("val.json: annotation 1", "label without image: 3 annotations of image 100"),
        ("val.json: annotation 99", "label without image: 1 annotations of image 4711"),
    ]
    assert any(note.fault == "image listed twice: id 101, 'sub/1.jpg'" for note in source.notes())


def test_a_size_that_differs(tmp_path: Path) -> None:
    settings = write_coco(tmp_path)
    content = json.loads((tmp_path / "val.json").read_text())
    content["images"][0]["width"] = 61
    (tmp_path / "val.json").write_text(json.dumps(content))
    with pytest.raises(FaultError, match=r"sub/0\.jpg: size differs: .*val\.json says 61 x 40, it has 60 x 40"):
        Coco(tmp_path, settings, 0).sample("val", "0")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"val\.json: not valid JSON"),
        ("[]", r"val\.json: not COCO annotations: it has no list 'images'"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "a category has no id or no name"),
        (None, r"val\.json: cannot be read .* data\.coco\.files"),
    ],
)
def test_a_file_that_is_not_cocos(tmp_path: Path, text: str | None, message: str) -> None:
    settings = write_coco(tmp_path)
    (tmp_path / "val.json").unlink()
    if text is not None:
        (tmp_path / "val.json").write_text(text)
    with pytest.raises(DatasetError, match=message):
        Coco(tmp_path, settings, 0)


@needs_coco128
def test_coco128_against_the_reference_reader() -> None:
    source, truth = _coco128(), COCO(str(COCO128 / "instances.json"), print_function=lambda *_: None)
    images = {Path(image["file_name"]).stem: image for image in truth.imgs.values()}
    ids = source.split_ids()
    assert {name for names in ids.values() for name in names} == set(images) and source.faults() == []
    assert sum(len(names) for names in ids.values()) == len(images) == 128
    counts: Counter[str] = Counter()
    for split, names in ids.items():
        for name in names[::4]:
            sample, image = source.sample(split, name), images[name]
            annotations = truth.loadAnns(truth.getAnnIds(imgIds=[image["id"]]))
            crowds = [annotation["iscrowd"] for annotation in annotations]
            assert sample.instances is not None and sample.boxes is not None and sample.ignored is not None
            assert (len(sample.boxes), len(sample.ignored)) == (crowds.count(0), crowds.count(1))
            names_of = [truth.cats[annotation["category_id"]]["name"] for annotation in annotations]
            assert [source.classes["detection"][i.category] for i in sample.instances] == names_of
            for instance, annotation in zip(sample.instances, annotations, strict=True):
                expected = reference.decode(truth.annToRLE(annotation))
                assert np.array_equal(decode_mask(instance.counts, expected.shape), expected)
            counts.update(names_of)
            expected = cv2.imread(str(COCO128 / "images" / image["file_name"]))[:, :, ::-1]
            assert np.array_equal(sample.image, expected)
    assert len(counts) > 20


@needs_coco128
def test_coco128_splits_and_limits() -> None:
    ids = _coco128(limit={"train": 10, "val": None, "test": None}).split_ids()
    assert len(ids["train"]) == 10 and abs(len(ids["val"]) - 0.2 * 128) < 1
    with pytest.raises(DatasetError, match=r"data\.coco\.split: missing"):
        _coco128(split=None).split_ids()
