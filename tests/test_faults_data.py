"""Data files that are wrong, in every format, through the intake that all of them come by."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from data.labels import DatasetError
from pipeline.datasets.importing import import_dataset
from pipeline.settings.data import Data
from pipeline.settings.params import ParamsError
from tests.fault_table import Fault, cut, edit, names, refuses
from tests.outside_data import WRITERS, save

XML = "VOC2012/Annotations/2012_00.xml"


def _read(source: str, **changes: Any) -> Callable[[Path], None]:
    """What the stage `prepare` does, on small data of a format; settings can be changed."""

    def run(folder: Path) -> None:
        settings = json.loads((folder / "settings.json").read_text()) | changes
        content = settings.pop("content", None)
        if content is not None and not (folder / "data.yaml").exists():
            YAML().dump(content, folder / "data.yaml")
        data = Data.model_validate({"source": source, "root": str(folder), "trust_paths": False, source: settings})
        import_dataset(data, 0, folder / "out")

    return run


def _written(source: str, change: Callable[[Path], Any]) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        (folder / "settings.json").write_text(json.dumps(WRITERS[source](folder)))
        change(folder)

    return prepare


def _fault(name: str, source: str, change: Callable[[Path], Any], match: str, **settings: Any) -> Fault:
    return Fault(name, _written(source, change), _read(source, **settings), match)


def _json(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Change the COCO annotations of the training images."""

    def apply(folder: Path) -> None:
        content = json.loads((folder / "train.json").read_text())
        change(content)
        (folder / "train.json").write_text(json.dumps(content))

    return apply


def _name_of_all(name: str) -> Callable[[Path], None]:
    """Another name for one category, in all files."""

    def apply(folder: Path) -> None:
        for path in folder.glob("*.json"):
            if path.name != "settings.json":
                edit(path, '"name": "dog"', f'"name": {json.dumps(name)}')

    return apply


def _text(name: str, content: str | bytes) -> Callable[[Path], Any]:
    data = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / name).write_bytes(data)


def _first(kind: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["annotations"][0].update({kind: value})


def _settled(folder: Path) -> None:
    """Nothing: the data are as they should be."""


LISTED = "all listed in .*faults.csv. Repair the files, or set data.faults to skip"
HUGE = "1" + "0" * 400
COCO = [
    _fault("JSON cut", "coco", lambda f: cut(f / "train.json"), "train.json: not valid JSON"),
    _fault("JSON nested without end", "coco", _text("train.json", "[" * 9000), "train.json: not valid JSON"),
    _fault("JSON that is a list", "coco", _text("train.json", "[]"), "no list 'images' of mappings"),
    _fault("JSON missing", "coco", lambda f: (f / "val.json").unlink(), "val.json: cannot be read.*data.coco.files"),
    _fault(
        "no folder of images",
        "coco",
        lambda f: shutil.rmtree(f / "val"),
        "val: no such folder. Correct data.coco",
    ),
    _fault("category without a name", "coco", _json(lambda c: c["categories"][0].pop("name")), "category has no id or"),
    _fault(
        "category of infinite id", "coco", _json(lambda c: c["categories"][0].update(id=1e999)), "category has no id"
    ),
    _fault("category of half a letter", "coco", _name_of_all("\ud800"), "class name with control characters"),
    _fault("category of two lines", "coco", _name_of_all("a\nb"), "class name with control characters"),
    _fault("box of 400 digits", "coco", _json(_first("bbox", [int(HUGE), 0, 1, 1])), f"1 x malformed box.*{LISTED}"),
    _fault("box of words", "coco", _json(_first("bbox", ["a", 0, 1, 1])), f"1 x malformed box.*{LISTED}"),
    _fault("box outside", "coco", _json(_first("bbox", [900, 0, 9, 9])), f"1 x box outside the image.*{LISTED}"),
    _fault("outline of words", "coco", _json(_first("segmentation", [["a"] * 6])), "1 x malformed outline"),
    _fault(
        "outline cut", "coco", _json(_first("segmentation", {"size": [40, 60], "counts": [0, 5]})), "malformed outline"
    ),
    _fault(
        "outline of half letters",
        "coco",
        _json(_first("segmentation", {"size": [40, 60], "counts": "\ud800"})),
        "1 x malf",
    ),
    _fault(
        "image's name leads out",
        "coco",
        _json(lambda c: c["images"][0].update(file_name="../../x.jpg")),
        "unusable entry",
    ),
    _fault(
        "image's name of half a letter", "coco", _json(lambda c: c["images"][0].update(file_name="\ud800")), "unusable"
    ),
    _fault(
        "image's name too long", "coco", _json(lambda c: c["images"][0].update(file_name="x" * 3000)), "unusable entry"
    ),
    _fault("image missing", "coco", lambda f: (f / "train/sub/0.jpg").unlink(), "1 x unreadable image"),
]
YOLO = [
    _fault("no names", "yolo", _settled, "names: expected a list", content={"train": "images/train"}),
    _fault(
        "classes without number", "yolo", _settled, "nc: expected 1 to", content={"train": "images/train", "nc": 10**12}
    ),
    _fault(
        "path too long",
        "yolo",
        _settled,
        "path: 'x+' is not a possible",
        content={"names": ["a"], "path": "x" * 999},
    ),
    _fault(
        "split too long", "yolo", _settled, "train: 'x+' is not a poss", content={"names": ["a"], "train": "x" * 999}
    ),
    _fault("path leads out", "yolo", _settled, "path: /etc lies outside", content={"names": ["a"], "path": "/etc"}),
    _fault("split leads out", "yolo", _settled, "val: .* lies outside", content={"names": ["a"], "val": "/etc/passwd"}),
    _fault("data.yaml that is no YAML", "yolo", _text("data.yaml", "a: ["), "data.yaml: not valid YAML"),
    _fault("data.yaml that is a list", "yolo", _text("data.yaml", "- 1"), "data.yaml: not a mapping"),
    _fault("words in labels", "yolo", _text("labels/train/1.txt", "cat 1 2 3 4\n"), "1 x malformed label"),
    _fault("labels in Latin-1", "yolo", _text("labels/train/1.txt", b"\xe9"), "1 x unreadable label"),
    _fault("class beyond all", "yolo", _text("labels/train/1.txt", "99 0 0 0.1 0 0.1 0.2\n"), "1 x class out of range"),
    _fault(
        "labels that are no number",
        "yolo",
        _text("labels/train/1.txt", "0 nan 0 0.1 0 0.1 0.2\n"),
        "1 x malformed label",
    ),
]
VOC = [
    _fault("XML cut", "voc", lambda f: cut(f / XML), f"1 x unreadable label.*{LISTED}"),
    _fault("XML with entities", "voc", _text(XML, '<!DOCTYPE a [<!ENTITY b "c">]><a/>'), "1 x unreadable label"),
    _fault(
        "corner that is no number", "voc", lambda f: edit(f / XML, "<xmin>21", "<xmin>nan"), "1 x box that is no number"
    ),
    _fault("unknown class", "voc", lambda f: edit(f / XML, "<name>car", "<name>cart"), "1 x class out of range"),
    _fault(
        "list leads out",
        "voc",
        lambda f: edit(f / "VOC2012/ImageSets/Segmentation/train.txt", "2012_00", "../../x"),
        "unusable",
    ),
    _fault("list missing", "voc", lambda f: (f / "VOC2012/ImageSets/Segmentation/val.txt").unlink(), "data.voc.sets"),
    _fault(
        "mask of another class",
        "voc",
        lambda f: save(f / "VOC2012/SegmentationClass/2012_00.png", np.full((40, 60), 9, np.uint8)),
        "out of range",
    ),
]
MASKS = [
    _fault("image cut", "masks", lambda f: cut(f / "train/0.png"), "1 x unreadable image"),
    _fault("image that is text", "masks", _text("train/0.png", "hello"), "1 x unreadable image"),
    _fault("image of no bytes", "masks", _text("train/0.png", ""), "1 x unreadable image"),
    _fault("mask cut", "masks", lambda f: cut(f / "trainannot/0.png", 0.4), "1 x unreadable mask"),
    _fault(
        "mask of another size",
        "masks",
        lambda f: save(f / "trainannot/0.png", np.zeros((9, 9), np.uint8)),
        "size differs",
    ),
    _fault(
        "mask in colour",
        "masks",
        lambda f: save(f / "trainannot/0.png", np.arange(7200, dtype=np.uint8).reshape(40, 60, 3)),
        "unreadable mask",
    ),
    _fault("mask missing", "masks", lambda f: (f / "trainannot/0.png").unlink(), "1 x image without label"),
    _fault(
        "image too small", "masks", lambda f: save(f / "train/0.png", np.zeros((9, 9, 3), np.uint8)), "image too small"
    ),
    _fault(
        "no folders",
        "masks",
        lambda f: [shutil.rmtree(f / s) for s in ("train", "val", "test")],
        "none of the folders",
    ),
    _fault(
        "the same picture twice",
        "masks",
        lambda f: shutil.copyfile(f / "test/0.png", f / "train/0.png"),
        "1 x same picture",
    ),
    _fault(
        "no classes",
        "folders",
        lambda f: [shutil.rmtree(f / s) for s in ("train", "val", "test")],
        "it has no folders",
    ),
]
EXDARK = [
    _fault("row of words", "exdark", _text("ExDark_Annno/Cat/2015_10.jpg.txt", "Cat a b c d\n"), "1 x malformed label"),
    _fault("split 7", "exdark", lambda f: edit(f / "imageclasslist.txt", "6 2 1 1", "6 2 1 7"), "1 x unusable entry"),
    _fault("list of no text", "exdark", _text("imageclasslist.txt", b"\xff\xfe"), "cannot be read .*data.exdark.list"),
]
INTAKE = [*COCO, *YOLO, *VOC, *MASKS, *EXDARK]


@pytest.mark.parametrize("fault", INTAKE, ids=names(INTAKE))
def test_a_fault_in_the_data_is_one_line_and_leaves_nothing(
    fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refuses(fault, tmp_path, DatasetError, ParamsError)
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "work").rglob("*.png"))
