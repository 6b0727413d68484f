"""Labels of any content are read, become faults, or refuse the data set in one line: YOLO, VOC, COCO and our own."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data.labels import DatasetError, read_boxes, read_category, read_instances
from data.samples import FaultError
from pipeline.datasets.importing import faults_error
from tests.outside_data import VOC_OBJECT, VOC_XML, WRITERS, open_source
from tests.properties import anything, few, grafted, mutated, refused_well, to_bytes

BOXES = "1 0.5 0.25 0.5 0.5\n0 0.1 0.1 0.2 0.2\n"
POLYGONS = "1 0.5 0.25 0.75 0.25 0.75 0.5 0.5 0.5\n0 0 0 0.1 0 0.1 0.2\n"
XML = VOC_XML.format(objects=VOC_OBJECT.format(name="car", difficult=0, box=(21, 11, 32, 20)))
ROWS = "% bbGt version=3\nCat 20 10 12 10 0 0 0 0 0 0 0\nPeople 1 2 3 4 0 0 0 0 0 0 0\n"
INSTANCES = '[{"category": 0, "counts": "abc", "crowd": false}]'
COCO: dict[str, Any] = {
    "images": [{"id": 7, "file_name": "sub/0.jpg", "width": 60, "height": 40}, {"id": 8, "file_name": "sub/1.jpg"}],
    "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
    "annotations": [
        {
            "id": 1,
            "image_id": 7,
            "category_id": 3,
            "bbox": [20, 10, 12, 10],
            "segmentation": [[20, 10, 32, 10, 32, 20]],
        },
        {"id": 2, "image_id": 7, "category_id": 18, "segmentation": {"size": [40, 60], "counts": [600, 40, 1760]}},
        {
            "id": 3,
            "image_id": 8,
            "category_id": 3,
            "bbox": [1, 1, 9, 9],
            "segmentation": {"size": [40, 60], "counts": "h1"},
        },
    ],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small data in each format."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("yolo", "voc", "exdark", "coco"):
        (folder / name).mkdir()
        (folder / f"{name}.settings").write_text(json.dumps(WRITERS[name](folder / name)))
    return folder


def _settings(root: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / f"{name}.settings").read_text())
    return found


def _refused_well(root: Path, name: str, settings: dict[str, Any]) -> None:
    refused_well(lambda: read_all(open_source(name, root / name, settings, trust_paths=False), root), DatasetError)


def read_all(source: Any, folder: Path) -> None:
    """Every sample, and the table of faults that a user would get."""
    faults = []
    for split, id in ((split, id) for split, ids in source.split_ids().items() for id in ids):
        try:
            source.sample(split, id)
        except FaultError as error:
            faults.extend(error.faults)
    faults.extend(source.faults())
    if faults:
        raise faults_error(faults, folder / "faults.csv", folder, "repair the files")


@few
@given(content=mutated(BOXES) | mutated(POLYGONS) | st.text(max_size=40), masks=st.booleans())
@example(content="0 1e308 1e308 1e308 1e308 1e308 1e308\n", masks=True)
def test_yolo(root: Path, content: str, masks: bool) -> None:
    (root / "yolo/labels/train/1.txt").write_bytes(to_bytes(content))
    settings = _settings(root, "yolo") | {"masks": masks}
    _refused_well(root, "yolo", settings)


@few
@given(content=st.dictionaries(st.sampled_from(["path", "train", "val", "names", "nc"]), anything))
def test_yolo_projects(root: Path, content: dict[str, Any]) -> None:
    settings = _settings(root, "yolo")
    settings["content"] = settings["content"] | content
    _refused_well(root, "yolo", settings)


@few
@given(content=mutated("images/train/1.png\n./images/train/2.png\n"))
def test_yolo_lists(root: Path, content: str) -> None:
    (root / "yolo/list.txt").write_bytes(to_bytes(content))
    settings = _settings(root, "yolo")
    settings["content"] = settings["content"] | {"train": "list.txt"}
    _refused_well(root, "yolo", settings)


@few
@given(content=mutated(XML).map(to_bytes) | st.binary(max_size=40))
@example(content=XML.replace(">60<", ">inf<").encode())
def test_voc(root: Path, content: bytes) -> None:
    (root / "voc/VOC2012/Annotations/2012_00.xml").write_bytes(content)
    _refused_well(root, "voc", _settings(root, "voc"))


@few
@given(content=mutated(ROWS))
def test_exdark(root: Path, content: str) -> None:
    (root / "exdark/ExDark_Annno/Cat/2015_10.jpg.txt").write_bytes(to_bytes(content))
    _refused_well(root, "exdark", _settings(root, "exdark"))


def _coco(root: Path, content: bytes, masks: bool) -> None:
    (root / "coco/train.json").write_bytes(content)
    files = {"train": {"json": "train.json", "images": "train"}}
    settings = _settings(root, "coco") | {"masks": masks, "files": files}
    _refused_well(root, "coco", settings)


@few
@given(tree=grafted(COCO), masks=st.booleans())
@example(tree={**COCO, "categories": [{"id": float("inf"), "name": "a"}]}, masks=True)
@example(tree={**COCO, "categories": [{"id": 3, "name": "\ud800"}]}, masks=True)
@example(tree={**COCO, "images": [{"id": 7, "file_name": "\ud800.jpg"}]}, masks=True)
def test_coco_values(root: Path, tree: Any, masks: bool) -> None:
    _coco(root, json.dumps(tree).encode(), masks)


@few
@given(content=mutated(json.dumps(COCO)))
@example(content="[" * 9000)
def test_coco_text(root: Path, content: str) -> None:
    _coco(root, to_bytes(content), True)


@few
@given(content=mutated(BOXES) | mutated(INSTANCES) | mutated("3\n") | st.text(max_size=20))
def test_our_own_labels(root: Path, content: str) -> None:
    path = root / "labels"
    path.write_bytes(to_bytes(content))
    for read in (read_boxes, read_instances, read_category):
        refused_well(lambda read=read: read(path), DatasetError)  # type: ignore[misc]


@few
@given(value=anything)
def test_our_own_instances(root: Path, value: Any) -> None:
    path = root / "labels"
    path.write_text(json.dumps([{"category": 0, "counts": "abc", "crowd": False}, value]))
    refused_well(lambda: read_instances(path), DatasetError)
