import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data.dataset import Dataset
from data.labels import DatasetError, read_boxes, write_boxes


def test_what_is_written_is_read(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset()
    split = dataset.split("train")
    assert split.ids == tuple(sorted(f"train{i}" for i in range(5)))
    assert split.image("train0").shape == (48, 64, 3)
    assert set(np.unique(split.mask("train0"))) == {0, 1, 255}
    assert split.boxes("train0").shape == (1, 5)
    assert split.depth("train0") is None


def test_results_are_reported_on_test_or_else_val(make_dataset: Callable[..., Dataset]) -> None:
    assert make_dataset("a", train=1, val=1, test=1).evaluation_split == "test"
    assert make_dataset("b", train=1, val=1).evaluation_split == "val"


def test_unknown_split_lists_what_exists(make_dataset: Callable[..., Dataset]) -> None:
    with pytest.raises(DatasetError, match=r"no split 'dev'\. Choose one of train, val, test"):
        make_dataset().split("dev")


def test_missing_images_are_noticed(make_dataset: Callable[..., Dataset]) -> None:
    dataset = make_dataset()
    (dataset.folder / "train" / "images" / "train0.png").unlink()
    with pytest.raises(DatasetError, match=r"4 images, but dataset\.json says 5"):
        dataset.split("train")


@pytest.mark.parametrize("text", ["{", json.dumps({"name": "x"})])
def test_broken_description(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DatasetError, match=r"dataset\.json: not a valid dataset\.json"):
        Dataset.open(tmp_path)


def test_boxes_round_trip_and_a_broken_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    boxes = np.array([[1, 0.5, 0.25, 0.125, 0.0625]])
    write_boxes(path, boxes)
    assert np.allclose(read_boxes(path), boxes)
    write_boxes(path, [])
    assert read_boxes(path).shape == (0, 5)
    path.write_text("0 0.1 0.1 0.1 0.1\n0 0.1 zero 0.1 0.1\n")
    with pytest.raises(DatasetError, match=r"a\.txt:2: expected 'class cx cy w h'"):
        read_boxes(path)
