"""Canonical datasets and manifests that someone, or a disk, has changed: opening, reading, degrading, making again."""

import json
import shutil
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from data.dataset import Dataset, DatasetError
from data.degradations import DegradationError
from data.images import ImageError, write_image, write_mask
from pipeline.commands import redo_image
from pipeline.datasets.manifests import MANIFEST, ManifestError
from pipeline.datasets.recipes import recipe_of
from pipeline.degrade import degrade_dataset
from pipeline.settings.params import load_params
from tests.fault_table import Fault, cut, names, refuses

ROOT = Path(__file__).parents[1]


def _info(**changes: Any) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        content = json.loads((folder / "clean" / "dataset.json").read_text()) | changes
        (folder / "clean" / "dataset.json").write_text(json.dumps(content))

    return change


def _bytes(name: str, content: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / "clean" / name).write_bytes(content)


def _clean(folder: Path) -> Dataset:
    return Dataset.open(folder / "clean")


def _labels(folder: Path) -> None:
    """Everything that is known of one image."""
    split = _clean(folder).split("test")
    split.image("test0"), split.boxes("test0"), split.mask("test0"), split.instances("test0"), split.category("test0")


def _degrade(folder: Path) -> None:
    settings = load_params(ROOT / "params.tiny.yaml").degrade
    degrade_dataset(_clean(folder), recipe_of(settings, "fog"), settings, 0, folder / "fog")


def _depth(folder: Path) -> None:
    (folder / "clean/test/depth").mkdir()
    write_mask(folder / "clean/test/depth/test0.png", np.zeros((48, 64), np.uint8))


def _huge(folder: Path) -> None:
    """A PNG whose header says 60000 x 60000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    content = (folder / "clean" / IMAGE).read_bytes()
    checked = header + struct.pack(">I", zlib.crc32(header))
    (folder / "clean" / IMAGE).write_bytes(content[:12] + checked + content[33:])


IMAGE, LABELS, CATEGORY = "test/images/test0.png", "test/labels/test0.txt", "test/categories/test0.txt"
OPENING = [
    Fault("no dataset.json", lambda f: (f / "clean/dataset.json").unlink(), _clean, "not a valid dataset.json"),
    Fault("dataset.json cut", lambda f: cut(f / "clean/dataset.json"), _clean, "not a valid dataset.json"),
    Fault("dataset.json of no bytes", _bytes("dataset.json", b""), _clean, "not a valid dataset.json"),
    Fault("dataset.json in Latin-1", _bytes("dataset.json", b'{"name": "\xe9"}'), _clean, "not a valid dataset.json"),
    Fault("dataset.json that is a list", _bytes("dataset.json", b"[]"), _clean, "not a valid dataset.json"),
    Fault("dataset.json without end", _bytes("dataset.json", b"[" * 9000), _clean, "not a valid dataset.json"),
    Fault("an unknown entry", _info(author="x"), _clean, "unexpected keyword argument 'author'"),
    Fault("name that is a number", _info(name=3), _clean, "dataset.json: name: expected a string, got '3'"),
    Fault("classes without kinds", _info(classes=["a"]), _clean, "classes: expected lists of class names"),
    Fault(
        "classes that are numbers", _info(classes={"detection": [1]}), _clean, "classes: expected lists of class names"
    ),
    Fault("splits without counts", _info(splits=["test"]), _clean, "splits: expected the number of images"),
    Fault("splits of half an image", _info(splits={"test": 0.5}), _clean, "splits: expected the number of images"),
    Fault("split leads out", _info(splits={"../../etc": 1}), _clean, "splits: expected the number of images"),
    Fault("split leads to the root", _info(splits={"/etc": 1}), _clean, "splits: expected the number of images"),
    Fault("ignored index 999", _info(ignore_index=999), _clean, "ignore_index: expected 0 to 255"),
    Fault(
        "an image more",
        lambda f: shutil.copy(f / "clean" / IMAGE, f / "clean/test/images/x.png"),
        _labels,
        "4 images, but dataset.json says 3",
    ),
    Fault("labels missing", lambda f: (f / "clean" / LABELS).unlink(), _labels, "test0.txt: expected YOLO lines"),
    Fault("labels cut", lambda f: cut(f / "clean" / LABELS), _labels, "test0.txt:1: expected 'class cx cy w h'"),
    Fault("labels in Latin-1", _bytes(LABELS, b"\xe9"), _labels, "test0.txt: expected YOLO lines"),
    Fault(
        "labels that are no number", _bytes(LABELS, b"0 nan 0 0 0"), _labels, "test0.txt:1: expected 'class cx cy w h'"
    ),
    Fault("half a class", _bytes(LABELS, b"0.5 0 0 0 0"), _labels, "test0.txt:1: expected 'class cx cy w h'"),
    Fault(
        "instances cut", lambda f: cut(f / "clean/test/instances/test0.json"), _labels, "test0.json: expected a list of"
    ),
    Fault(
        "instances of words",
        _bytes("test/instances/test0.json", b'[{"category": "a", "counts": 3}]'),
        _labels,
        "expected instances of",
    ),
    Fault("category of no bytes", _bytes(CATEGORY, b""), _labels, "test0.txt: expected one class index, got ''"),
    Fault("category below 0", _bytes(CATEGORY, b"-1"), _labels, "test0.txt: expected one class index, got '-1'"),
    Fault("category of 5000 digits", _bytes(CATEGORY, b"9" * 5000), _labels, "test0.txt: expected one class index"),
    Fault(
        "mask in colour",
        lambda f: write_image(f / "clean/test/masks/test0.png", np.zeros((48, 64, 3), np.uint8)),
        _labels,
        "one 8-bit channel",
    ),
    Fault(
        "mask cut", lambda f: cut(f / "clean/test/masks/test0.png"), _labels, "masks/test0.png: not a readable image"
    ),
    Fault("image cut", lambda f: cut(f / "clean" / IMAGE), _labels, "images/test0.png: not a readable image"),
    Fault("image of 3.6 gigapixels", _huge, _labels, "images/test0.png: not a readable image"),
    Fault("depth of 8 bits", _depth, _degrade, "test0.png: expected one 16-bit channel of depth"),
    Fault(
        "an image cut, degraded", lambda f: cut(f / "clean" / IMAGE), _degrade, "images/test0.png: not a readable image"
    ),
]


@pytest.mark.parametrize("fault", OPENING, ids=names(OPENING))
def test_a_fault_in_a_dataset_is_one_line(
    fault: Fault, make_dataset: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_dataset()
    refuses(fault, tmp_path, DatasetError, ImageError)
    assert not (tmp_path / "fog").exists()


def _cell(column: str, value: Any) -> Callable[[Path], None]:
    """Another value for an image in the manifest."""

    def change(folder: Path) -> None:
        table = pd.read_csv(folder / "fog" / MANIFEST, dtype=str)
        table.loc[table["id"] == "test0", column] = value
        table.to_csv(folder / "fog" / MANIFEST, index=False)

    return change


def _without(column: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        pd.read_csv(folder / "fog" / MANIFEST, dtype=str).drop(columns=column).to_csv(
            folder / "fog" / MANIFEST, index=False
        )

    return change


def _no_steps_in_two_lines(folder: Path) -> None:
    _cell("recipe", "a\nb")(folder)
    _cell("steps", None)(folder)


def _manifest(content: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / "fog" / MANIFEST).write_bytes(content)


def _redo(folder: Path) -> None:
    """python -m pipeline.commands.redo_image test0, in the folder."""
    sys.argv = ["redo_image", "test0", "--clean", "clean", "--degraded", "fog", "--out", "redone"]
    redo_image.main()


REDONE = [
    Fault("no bytes", _manifest(b""), _redo, "manifest.csv: cannot be read as a manifest"),
    Fault("no text", _manifest(b"\xff\xfe\x00"), _redo, "manifest.csv: cannot be read as a manifest"),
    Fault(
        "rows of different length", _manifest(b"a,b\n1,2,3,4\n1\n5,6,7,8,9\n"), _redo, "cannot be read as a manifest"
    ),
    Fault("an open quote", _manifest(b'split,id\n"test,test0\n'), _redo, "cannot be read as a manifest"),
    Fault("no ids", _without("id"), _redo, "there is no column 'id'"),
    Fault("no splits", _without("split"), _redo, "there is no column 'split'"),
    Fault("no seeds", _without("seed"), _redo, "test0: seed: expected a whole number, got None"),
    Fault("no recipes", _without("recipe"), _redo, "there is no column 'recipe'"),
    Fault("no steps", _without("steps"), _redo, "real photos cannot be made again"),
    Fault("id of two lines", _cell("id", "a\nb"), _redo, r"id: expected the name of a file or folder, got 'a\\nb'"),
    Fault(
        "a column of two lines",
        _manifest(b'split,id,recipe,steps,seed,"1-fog.b\n"\n'),
        _redo,
        r"a column's name is '1-fog.b\\n'",
    ),
    Fault(
        "no steps of a recipe of two lines", _no_steps_in_two_lines, _redo, r"'a\\nb': real photos cannot be made again"
    ),
    Fault("split leads out", _cell("split", "../../etc"), _redo, "split: expected the name of a file or folder"),
    Fault("split that is none", _cell("split", "tets"), _redo, "no split 'tets'. Choose one of train, test"),
    Fault("split left out", _cell("split", None), _redo, "split: expected the name of a file or folder, got 'nan'"),
    Fault("recipe leads out", _cell("recipe", "../../x"), _redo, "recipe: expected a name, got '../../x'"),
    Fault("seed of words", _cell("seed", "one"), _redo, "seed: expected a whole number, got 'one'"),
    Fault("seed below 0", _cell("seed", "-3"), _redo, "seed: expected a whole number >= 0"),
    Fault("endless seed", _cell("seed", "inf"), _redo, "seed: expected a whole number, got inf|got 'inf'"),
    Fault("steps cut", _cell("steps", '["fo'), _redo, "fog, steps: expected a list of effects"),
    Fault("steps that are a number", _cell("steps", "3"), _redo, "fog, steps: expected a list of effects"),
    Fault("steps that do not exist", _cell("steps", '["smog"]'), _redo, "fog, step 1: there is no effect 'smog'"),
    Fault("steps of no names", _cell("steps", "[[1]]"), _redo, r"fog, step 1: there is no effect \[1\]"),
    Fault("no steps in the list", _cell("steps", "[]"), _redo, "fog: expected a list of steps"),
    Fault("another effect's parameters", _cell("steps", '["rain"]'), _redo, "fog: the record has no parameter"),
    Fault(
        "nothing of that name",
        _manifest(b"split,id,recipe,steps,seed\ntest,x,fog,[],1\n"),
        _redo,
        "test0: is in no manifest",
    ),
]


@pytest.mark.parametrize("fault", REDONE, ids=names(REDONE))
def test_a_fault_in_a_manifest_is_one_line_and_writes_nothing(
    fault: Fault, make_dataset: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [])
    make_dataset(train=1, test=1)
    _degrade(tmp_path)
    before = {*tmp_path.rglob("*"), *tmp_path.parent.iterdir()}
    refuses(fault, tmp_path, ManifestError, DatasetError, DegradationError)
    assert {*tmp_path.rglob("*"), *tmp_path.parent.iterdir()} == before
