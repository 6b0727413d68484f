"""Nothing outside the data's folder is read without consent: neither by a name in a list, nor by a link."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from data.dataset import Dataset, DatasetError
from pipeline.datasets.importing import import_dataset
from pipeline.settings.data import Data
from tests.outside_data import WRITERS

Change = Callable[[Path, Path], Any]


def _linked(name: str) -> Change:
    """A file or folder is moved out of the data, and a link to it is left."""

    def change(root: Path, outside: Path) -> None:
        place = root / name
        target = outside / place.name
        shutil.move(place, target)
        place.symlink_to(target)

    return change


def _listed(file: str, line: str) -> Change:
    """A list names a file outside: {outside} is put in."""

    def change(root: Path, outside: Path) -> None:
        for kind in ("images", "labels"):
            shutil.copytree(root / kind, outside / kind)
        (root / file).write_text(line.format(outside=outside) + "\n")

    return change


def _coco_name(root: Path, outside: Path) -> None:
    content = json.loads((root / "train.json").read_text())
    shutil.copyfile(root / "train/sub/0.jpg", outside / "0.jpg")
    content["images"][0]["file_name"] = f"../../{outside.name}/0.jpg"
    (root / "train.json").write_text(json.dumps(content))


def _voc_name(root: Path, outside: Path) -> None:
    (root / "VOC2012/ImageSets/Segmentation/train.txt").write_text(f"../../../{outside.name}/0\n")


def _yolo(**changes: Any) -> dict[str, Any]:
    return {"path": ".", "train": "images/train", "val": "images/val", "names": ["cat", "dog"], **changes}


NAMES: list[tuple[str, str, Change, dict[str, Any]]] = [
    ("coco: a name", "coco", _coco_name, {}),
    ("voc: a list", "voc", _voc_name, {}),
    (
        "yolo: a list, absolute",
        "yolo",
        _listed("t.txt", "{outside}/images/train/1.png"),
        {"content": _yolo(train="t.txt")},
    ),
    (
        "yolo: a list, upwards",
        "yolo",
        _listed("t.txt", "../outside/images/train/1.png"),
        {"content": _yolo(train="t.txt")},
    ),
    ("yolo: a split", "yolo", _listed("t.txt", ""), {"content": _yolo(val="../outside/images/val")}),
    ("yolo: the path", "yolo", _listed("t.txt", ""), {"content": _yolo(path="../outside")}),
]
LINKS = [
    ("coco", "train/sub/0.jpg"),
    ("coco", "train"),
    ("yolo", "images/train/1.png"),
    ("yolo", "labels/train/1.txt"),
    ("yolo", "labels"),
    ("voc", "VOC2012/JPEGImages/2012_00.jpg"),
    ("voc", "VOC2012/Annotations/2012_00.xml"),
    ("voc", "VOC2012/SegmentationClass"),
    ("masks", "train/0.png"),
    ("masks", "trainannot"),
    ("exdark", "ExDark/Cat/2015_10.JPG"),
    ("exdark", "ExDark_Annno/Cat/2015_10.jpg.txt"),
    ("folders", "train/cat/0.jpg"),
    ("folders", "val/dog"),
]


def _read(source: str, root: Path, settings: dict[str, Any], trust: bool) -> None:
    content = settings.pop("content", None)
    if content is not None:
        YAML().dump(content, root / "data.yaml")
    section = {"source": source, "root": str(root), source: settings, "trust_paths": trust}
    import_dataset(Data.model_validate(section), 0, root.parent / "out")


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The folder of the data, and one outside it."""
    monkeypatch.chdir(tmp_path)
    for name in ("data", "outside"):
        (tmp_path / name).mkdir()
    return tmp_path / "data", tmp_path / "outside"


@pytest.mark.parametrize(("source", "change", "settings"), [row[1:] for row in NAMES], ids=[row[0] for row in NAMES])
def test_a_name_that_leads_out_is_refused(
    places: tuple[Path, Path], source: str, change: Change, settings: dict[str, Any]
) -> None:
    root, outside = places
    written = WRITERS[source](root) | settings
    change(root, outside)
    with pytest.raises(DatasetError, match=r"leads outside|lies outside|unusable entry"):
        _read(source, root, written, trust=False)
    assert not (root.parent / "out").exists()


@pytest.mark.parametrize(("source", "name"), LINKS, ids=[f"{source}: {name}" for source, name in LINKS])
def test_a_link_that_leads_out_is_refused_until_it_is_trusted(
    places: tuple[Path, Path], source: str, name: str
) -> None:
    root, outside = places
    settings = WRITERS[source](root)
    _linked(name)(root, outside)
    with pytest.raises(DatasetError, match="leads outside"):
        _read(source, root, dict(settings), trust=False)
    assert "set data.trust_paths to true if you trust" in (root.parent / "work" / "faults.csv").read_text()
    assert not (root.parent / "out").exists()
    _read(source, root, settings, trust=True)
    assert sum(Dataset.open(root.parent / "out").info.splits.values()) > 0


@pytest.mark.parametrize(("source", "name"), [("masks", "train"), ("yolo", "images/train"), ("folders", "train/cat")])
def test_links_within_the_data_are_followed(places: tuple[Path, Path], source: str, name: str) -> None:
    root, _ = places
    settings = WRITERS[source](root)
    shutil.move(root / name, root / ".kept")
    (root / name).symlink_to(root / ".kept")
    _read(source, root, settings, trust=False)


def test_the_folder_itself_may_be_a_link(places: tuple[Path, Path]) -> None:
    root, outside = places
    settings = WRITERS["masks"](outside)
    root.rmdir()
    root.symlink_to(outside)
    _read("masks", root, settings, trust=False)
