"""Folders of classes: which class and split an image has, against what torchvision's ImageFolder reads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from outside_data import COMMON, COUNTS, folders, picture, save
from torchvision.datasets import ImageFolder

from data.dataset import Dataset, DatasetError
from data.sources.folders import Folders
from pipeline.datasets.importing import import_dataset
from pipeline.settings.data import Data

SHARES = {"train": 0.5, "test": 0.5}


def _labels(source: Folders) -> dict[str, dict[str, str]]:
    names = source.classes["classification"]
    return {
        split: {id: names[source.sample(split, id).category or 0] for id in ids}
        for split, ids in source.split_ids().items()
    }


def _write(root: Path, *names: str) -> None:
    for index, name in enumerate(names):
        save(root / name, picture(7, index))


def test_classes_are_those_of_torchvision(tmp_path: Path) -> None:
    source = Folders(tmp_path, folders(tmp_path), 0)
    expected = ImageFolder(str(tmp_path / "train"))
    assert source.classes == {"classification": expected.classes}
    for split in COUNTS:
        theirs = ImageFolder(str(tmp_path / split))
        named = sorted((Path(path).stem, theirs.classes[index]) for path, index in theirs.samples)
        assert sorted((id.split("__")[-1], name) for id, name in _labels(source)[split].items()) == named
    ids = source.split_ids()["train"]
    for id, (pixels, index) in zip(ids, expected, strict=True):
        sample = source.sample("train", id)
        assert sample.category == index and np.array_equal(sample.image, np.asarray(pixels))


def test_undivided_classes_are_drawn_from(tmp_path: Path) -> None:
    _write(tmp_path, "cat/1.png", "cat/deep/2.jpg", "train/1.jpg", "train/2.PNG", ".cache/x/1.jpg", "cat/._1.jpg")
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    source = Folders(tmp_path, {**COMMON, "split": SHARES}, 0)
    found = {id: name for own in _labels(source).values() for id, name in own.items()}
    assert found == {"cat__1": "cat", "cat__deep__2": "cat", "train__1": "train", "train__2": "train"}
    assert source.faults() == []
    with pytest.raises(DatasetError, match=r"data\.folders\.split: missing"):
        Folders(tmp_path, COMMON, 0).split_ids()


def test_classes_are_merged_and_dropped_by_name(tmp_path: Path) -> None:
    _write(tmp_path, "train/cat/1.png", "train/dog/1.png", "train/eel/1.png", "validation/cat/1.png", "valid/eel/2.png")
    settings: dict[str, Any] = {**COMMON, "map": [{"beast": ["dog", "cat"]}]}
    source = Folders(tmp_path, settings, 0)
    assert source.classes == {"classification": ["beast"]}
    assert {split: len(ids) for split, ids in source.split_ids().items()} == {"train": 2, "val": 1}
    with pytest.raises(DatasetError, match=r"data\.folders\.map: the source has no class cow\. Choose from cat, dog"):
        Folders(tmp_path, {**COMMON, "map": ["cow"]}, 0)


def test_an_image_beside_the_classes_is_a_fault(tmp_path: Path) -> None:
    _write(tmp_path, "train/cat/1.png", "train/2.png", "val/cat/1.png")
    (fault,) = Folders(tmp_path, COMMON, 0).faults()
    assert fault.file.endswith("train/2.png") and fault.fault.startswith("image without label: ")


def test_no_folders(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere: no such folder\. Correct data\.root"):
        Folders(tmp_path / "nowhere", COMMON, 0)
    _write(tmp_path, "1.png")
    with pytest.raises(DatasetError, match=r"it has no folders. Put images into <split>/<class>/ or <class>/"):
        Folders(tmp_path, COMMON, 0)


def test_a_dataset_without_boxes_says_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = Data.model_validate({"source": "folders", "root": "in", "folders": folders(Path("in"))})
    with pytest.raises(DatasetError, match=r"no labels for detection, only for classification\. Remove detection"):
        import_dataset(data, 0, Path("out"), ["detection"])
    import_dataset(data, 0, Path("out"), ["classification"])
    split = Dataset.open(Path("out")).split("train")
    assert [split.category(id) for id in split.ids] == [0, 1, 2] and not (split.folder / "labels").exists()
