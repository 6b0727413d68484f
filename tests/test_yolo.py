"""YOLO projects, read as ultralytics reads them: its own reader and its own converter are the reference."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from outside_data import open_source, picture, save
from outside_data import yolo as write_yolo

from data.labels import DatasetError
from data.samples import FaultError
from data.sources import Source
from data.sources.coco import Coco

COCO128 = Path(__file__).parents[1].parent / "shared" / "coco128"
BOXES = "1 0.5 0.5 0.25 0.5\n0 0.1 0.1 0.2 0.2\n1 0.5 0.5 0.25 0.5\n"


def _yolo(root: Path, **settings: Any) -> Source:
    return open_source("yolo", root, {**write_yolo(root), **settings})


def _reference(root: Path, content: dict[str, Any], split: str, task: str) -> dict[str, np.ndarray]:
    """Rows by image name, as ultralytics reads them from the same data.yaml."""
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    (root / "data.yaml").write_text(json.dumps(content))
    data = check_det_dataset(str(root / "data.yaml"), autodownload=False)
    read = YOLODataset(img_path=data[split], data=data, task=task, augment=False, imgsz=64)
    return {Path(x["im_file"]).stem: np.hstack([x["cls"], x["bboxes"]]) for x in read.labels}


def _same_rows(one: np.ndarray | None, other: np.ndarray) -> bool:
    assert one is not None
    return one.shape == other.shape and np.allclose(
        sorted(map(tuple, one.round(4))), sorted(map(tuple, other.astype(float).round(4))), atol=2e-4
    )


@pytest.mark.parametrize("kind", ["folder", "folders", "list", "names as list", "polygons"])
def test_the_same_boxes_as_ultralytics(tmp_path: Path, kind: str) -> None:
    content = write_yolo(tmp_path)["content"]
    content["path"] = str(tmp_path)
    if kind != "polygons":
        for label in (tmp_path / "labels").rglob("*.txt"):
            label.write_text(BOXES)
    if kind == "folders":
        save(tmp_path / "more" / "images" / "x.png", picture(9))
        (tmp_path / "more" / "labels").mkdir()
        (tmp_path / "more" / "labels" / "x.txt").write_text(BOXES)
        content["train"] = ["images/train", "more/images"]
    elif kind == "list":
        (tmp_path / "train.txt").write_text(f"./images/train/1.png\n{tmp_path}/images/train/0.png\n")
        content["train"] = "train.txt"
    elif kind == "names as list":
        content["names"] = ["cat", "dog"]
    expected = _reference(tmp_path, content, "train", "segment" if kind == "polygons" else "detect")
    source = _yolo(tmp_path, content=content, masks=kind == "polygons")
    if kind != "polygons":  # what write_yolo has written anew
        for label in (tmp_path / "labels").rglob("*.txt"):
            label.write_text(BOXES)
    ids = source.split_ids()["train"]
    assert len(ids) == len(expected)
    for name in ids:
        assert _same_rows(source.sample("train", name).boxes, expected[name.split("__")[-1]]), name


def test_relative_and_absolute_paths(tmp_path: Path) -> None:
    content = write_yolo(tmp_path / "toy")["content"]
    for path in (None, ".", "toy", "../toy", str(tmp_path / "toy")):
        ids = _yolo(tmp_path / "toy", content={**content, "path": path}).split_ids()
        assert [len(names) for names in ids.values()] == [3, 2, 2]
    exported = {**content, "path": None, "val": "../images/val", "validation": None}
    assert len(_yolo(tmp_path / "toy", content=exported).split_ids()["val"]) == 2
    with pytest.raises(DatasetError, match=r"data\.yaml: path: there is no folder .*nowhere"):
        _yolo(tmp_path / "toy", content={**content, "path": "nowhere"}).split_ids()
    with pytest.raises(DatasetError, match=r"data\.yaml: val: .*images/vall does not exist"):
        _yolo(tmp_path / "toy", content={**content, "val": "images/vall"}).split_ids()


def test_polygons_become_masks_boxes_and_instances(tmp_path: Path) -> None:
    source = _yolo(tmp_path)
    assert source.classes["segmentation"] == ["background", "cat", "dog"]
    sample = source.sample("train", "1")
    assert sample.mask is not None and sample.instances is not None and sample.boxes is not None
    assert (sample.mask[10:20, 30:45] == 2).all() and (sample.mask == 2).sum() == 150
    assert [instance.category for instance in sample.instances] == [1, 0]
    assert np.allclose(sample.boxes[0], [1, 0.625, 0.375, 0.25, 0.25])
    assert source.sample("train", "0").boxes is not None and not len(source.sample("train", "0").instances or ())
    boxes_only = _yolo(tmp_path, masks=False)
    assert boxes_only.classes == {"detection": ["cat", "dog"]}
    assert np.array_equal(boxes_only.sample("train", "1").boxes, sample.boxes)  # type: ignore[arg-type]


FAULTS = [
    ("2 0.5 0.5 0.1 0.1", "class out of range: 2; there are 0 to 1"),
    ("-1 0.5 0.5 0.1 0.1", "class out of range: -1"),
    ("0.5 0.5 0.5 0.1 0.1", "class out of range: 0.5"),
    ("0 0.5 0.5 0 0.1", "box without area"),
    ("0 0.5 0.5 1.5 0.1", "box outside the image: (-15, 18, 75, 22) in 60 x 40 pixels"),
    ("0 30 20 10 10", "box outside the image"),
    ("0 0.5 0.5 0.1", "malformed label: '0 0.5 0.5 0.1'; expected a class and x y w h"),
    ("0 0.5 0.5 0.1 zero", "malformed label"),
    ("0 0.5 0.5 0.1 nan", "malformed label"),
    ("0 0.5 0.5 0.1 0.1 0.9", "malformed label"),
]


@pytest.mark.parametrize(("row", "text"), FAULTS, ids=[row for row, _ in FAULTS])
def test_a_bad_row_is_named(tmp_path: Path, row: str, text: str) -> None:
    source = _yolo(tmp_path, masks=False)
    (tmp_path / "labels" / "train" / "1.txt").write_text(f"1 0.5 0.5 0.25 0.5\n\n{row}\n")
    with pytest.raises(FaultError) as caught:
        source.sample("train", "1")
    (fault,) = caught.value.faults
    assert fault.file == f"{tmp_path}/labels/train/1.txt:3" and text in fault.fault


def test_other_bad_labels(tmp_path: Path) -> None:
    source = _yolo(tmp_path)
    label = tmp_path / "labels" / "train" / "1.txt"
    label.write_text(BOXES)
    with pytest.raises(FaultError, match=r"1\.txt:1: no outline: a box, but data\.yolo\.masks is true; .*1\.txt:2"):
        source.sample("train", "1")
    label.write_text(BOXES + "0 0 0 0.1 0 0.1 0.2\n")
    with pytest.raises(FaultError, match="boxes and polygons mixed"):
        source.sample("train", "1")
    label.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FaultError, match=r"1\.txt: unreadable label"):
        source.sample("train", "1")


def test_labels_without_an_image_and_splits_without_labels(tmp_path: Path) -> None:
    settings = write_yolo(tmp_path)
    (tmp_path / "labels" / "val" / "lost.txt").write_text("")
    (tmp_path / "labels" / "val" / "classes.txt").write_text("cat\ndog\n")
    lost, doubtful = open_source("yolo", tmp_path, settings).faults()
    assert lost.file.endswith("labels/val/lost.txt") and lost.fault.startswith("label without image")
    assert doubtful.file.endswith("images/val/0.png")  # it has no label file: lost.txt may be its own
    assert doubtful.fault.startswith("image without label: 1 label files in")
    (tmp_path / "labels" / "val").rename(tmp_path / "labels" / "elsewhere")
    with pytest.raises(DatasetError, match=r"labels/val/0\.txt: missing, as is every other label file of split val"):
        open_source("yolo", tmp_path, settings).split_ids()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": {1: "cat", 2: "dog"}}, r"data\.yaml: names: expected a list, or a mapping from the indices"),
        ({"names": None}, "names: expected a list"),
        ({"train": None, "val": None, "test": None}, "it has no key train, val or test"),
    ],
)
def test_a_project_that_lacks_something(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    content = {**write_yolo(tmp_path)["content"], **change}
    with pytest.raises(DatasetError, match=message):
        _yolo(tmp_path, content=content).split_ids()


@pytest.mark.skipif(not COCO128.is_dir(), reason="../shared/coco128 is not here")
def test_coco128_as_ultralytics_converts_it_has_the_boxes_of_coco(tmp_path: Path) -> None:
    from ultralytics.data.converter import convert_coco

    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_train.json").write_bytes((COCO128 / "instances.json").read_bytes())
    convert_coco(str(tmp_path / "annotations"), str(tmp_path / "out"), use_segments=False, cls91to80=True)
    root = tmp_path / "out"
    (root / "images").rmdir()
    (root / "images").mkdir()
    (root / "images" / "train").symlink_to(COCO128 / "images")
    files = {"all": {"json": "instances.json", "images": "images"}}
    common = {"name": "x", "split": {"train": 0.5, "val": 0.5}, "limit": {}, "masks": False, "rest": None}
    coco = Coco(COCO128, {**common, "files": files, "category": False}, 0)
    content = {"train": "images/train", "names": coco.classes["detection"]}
    yolo = open_source("yolo", root, {**common, "project": "data.yaml", "content": content})
    ids = coco.split_ids()
    assert yolo.split_ids() == ids and yolo.faults() == []
    for name in ids["train"][::3]:
        boxes = coco.sample("train", name).boxes
        assert boxes is not None and _same_rows(yolo.sample("train", name).boxes, boxes), name


def test_a_split_that_is_no_list_of_images_is_one_line(tmp_path: Path) -> None:
    content = write_yolo(tmp_path)["content"]
    with pytest.raises(DatasetError, match=r"images/val/0\.png: not a list of images in UTF-8"):
        _yolo(tmp_path, content={**content, "val": "images/val/0.png"}).split_ids()
