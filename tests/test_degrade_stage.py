"""The stage degrade: manifest, labels, determinism. The degradations themselves are tested elsewhere."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data import images
from data.degradations import DegradationError, apply_parameters
from data.manifest import Dataset
from pipeline.degrade import MANIFEST, degrade_dataset


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _degrade(clean: Dataset, recipe: str, out: Path) -> Dataset:
    degrade_dataset(clean, recipe, 3, 0, out)
    return Dataset.open(out)


@pytest.mark.parametrize("recipe", ["lowlight", "fog"])
def test_any_image_can_be_made_again_from_its_row(
    make_dataset: Callable[..., Dataset], tmp_path: Path, recipe: str
) -> None:
    clean = make_dataset()
    degraded = _degrade(clean, recipe, tmp_path / recipe)
    table = pd.read_csv(degraded.folder / MANIFEST, dtype={"id": str}, float_precision="round_trip")
    assert len(table) == sum(clean.info.splits.values())
    for row in table.to_dict("records"):
        split = clean.split(row["split"])
        parameters = {
            name: value for name, value in row.items() if name not in ("split", "id", "recipe", "severity", "seed")
        }
        again = apply_parameters(split.image(row["id"]), recipe, parameters, row["seed"], split.depth(row["id"]))
        assert np.array_equal(again, degraded.split(row["split"]).image(row["id"]))


def test_labels_are_those_of_the_clean_set(make_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    clean = make_dataset()
    degraded = _degrade(clean, "lowlight", tmp_path / "x").split("test")
    for id in degraded.ids:
        assert np.array_equal(degraded.mask(id), clean.split("test").mask(id))
        assert np.array_equal(degraded.boxes(id), clean.split("test").boxes(id))
        assert not np.array_equal(degraded.image(id), clean.split("test").image(id))


def test_the_same_files_twice(make_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    clean = make_dataset()
    first, second = (_degrade(clean, "lowlight", tmp_path / name).folder for name in ("a", "b"))
    for path in sorted(first.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (second / path.relative_to(first)).read_bytes(), path


def test_every_image_has_a_seed_of_its_own(make_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    table = pd.read_csv(_degrade(make_dataset(), "lowlight", tmp_path / "x").folder / MANIFEST)
    assert table.seed.is_unique


def test_unknown_recipe_leaves_nothing(make_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    with pytest.raises(DegradationError, match="no recipe 'smog'"):
        degrade_dataset(make_dataset(), "smog", 3, 0, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_broken_clean_image_names_the_file_and_leaves_nothing(
    make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    clean = make_dataset()
    (clean.folder / "train" / "images" / "train0.png").write_bytes(b"broken")
    with pytest.raises(images.ImageError, match=r"train0\.png"):
        degrade_dataset(clean, "fog", 3, 0, tmp_path / "x")
    assert not (tmp_path / "x").exists()
