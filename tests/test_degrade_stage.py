"""The stage degrade: manifest, labels, determinism. The degradations themselves are tested elsewhere."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from data import images
from data.dataset import Dataset
from data.degradations import RECIPES, DegradationError, get_recipe
from pipeline.commands.redo_image import redo_image
from pipeline.datasets.manifests import MANIFEST, read_manifest
from pipeline.datasets.recipes import recipe_of
from pipeline.degrade import degrade_dataset
from pipeline.settings.data import Degrade


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _degrade(clean: Dataset, recipe: str, out: Path, severity: Any = 3, **settings: Any) -> Dataset:
    section = Degrade(severity=severity, **settings)
    degrade_dataset(clean, recipe_of(section, recipe), section, 0, out)
    return Dataset.open(out)


ONE_OF_EACH = [name for name in RECIPES if not name.startswith(("coco-c-", "ia-yolo-")) or name.endswith(("-3", "-4"))]
CHAIN = [{"effect": "fog"}, {"effect": "noise", "sigma_levels": [3, 9]}, {"effect": "jpeg", "quality": 40}]


def _redone(clean: Dataset, degraded: Dataset) -> int:
    rows = read_manifest(degraded.folder).to_dict("records")
    for row in rows:
        assert np.array_equal(redo_image(clean, row), degraded.split(row["split"]).image(row["id"])), row
    return len(rows)


@pytest.mark.parametrize("recipe", [name for name in ONE_OF_EACH if not get_recipe(name).moves_pixels])
def test_any_image_can_be_made_again_from_its_row(
    make_dataset: Callable[..., Dataset], tmp_path: Path, recipe: str
) -> None:
    clean = make_dataset(train=1, val=1, test=1)
    assert _redone(clean, _degrade(clean, recipe, tmp_path / recipe)) == 3


def test_an_own_chain_is_made_again_without_its_parameters(
    make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    clean = make_dataset()
    degraded = _degrade(clean, "haze-cam", tmp_path / "x", recipes={"haze-cam": CHAIN})
    assert _redone(clean, degraded) == 10
    assert set(read_manifest(degraded.folder)["3-jpeg.quality"]) == {40}


def test_several_severities_are_copies_of_the_evaluation_split(
    make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    clean = make_dataset(train=12, val=2, test=3)
    degraded = _degrade(clean, "noise", tmp_path / "x", severity=[1, 3, 5])
    assert degraded.evaluation_splits == ("test@1", "test@3", "test@5") and degraded.evaluation_split == "test"
    assert degraded.info.splits == {"train": 12, "val": 2, "test@1": 3, "test@3": 3, "test@5": 3}
    table = read_manifest(degraded.folder)
    assert set(table[table.split == "train"].severity) == {1, 3, 5}
    error = [
        np.abs(degraded.split(f"test@{s}").image("test0").astype(int) - clean.split("test").image("test0")).mean()
        for s in (1, 3, 5)
    ]
    assert error[0] < error[1] < error[2]
    assert np.array_equal(degraded.split("test@3").mask("test0"), clean.split("test").mask("test0"))
    assert _redone(clean, degraded) == 12 + 2 + 9


def test_random_severity_is_drawn_for_each_image(make_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    clean = make_dataset(train=12, val=2, test=12)
    degraded = _degrade(clean, "noise", tmp_path / "x", severity={"random": [2, 4]})
    assert degraded.info.splits == clean.info.splits
    assert set(read_manifest(degraded.folder).severity) == {2, 4}
    published = _degrade(clean, "ia-yolo-fog-3", tmp_path / "y", severity=[2, 4])
    assert published.info.splits == clean.info.splits, "a published setting has no severities"


def test_what_a_killed_run_finished_is_not_made_again(
    make_dataset: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = make_dataset()
    wanted = _degrade(clean, "noise", tmp_path / "whole").folder

    def kill(table: pd.DataFrame, *args: Any, **kwargs: Any) -> None:
        raise SystemExit(143)

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_csv", kill)
        with pytest.raises(SystemExit):
            _degrade(clean, "noise", tmp_path / "x")
    finished = {
        path.name: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*.png") if "images" in path.parts
    }
    assert len(finished) == 10 and not (tmp_path / "x").exists()
    next((tmp_path / "work").rglob("images/test1.png")).unlink()
    degraded = _degrade(clean, "noise", tmp_path / "x")
    again = {path.name: path.stat().st_mtime_ns for path in degraded.folder.rglob("images/*.png")}
    assert {name for name in again if again[name] != finished[name]} == {"test1.png"}
    for path in wanted.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (degraded.folder / path.relative_to(wanted)).read_bytes()
    assert not list((tmp_path / "work" / "resumable").iterdir())


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
        _degrade(make_dataset(), "smog", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_broken_clean_image_names_the_file_and_leaves_nothing(
    make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    clean = make_dataset()
    (clean.folder / "train" / "images" / "train0.png").write_bytes(b"broken")
    with pytest.raises(images.ImageError, match=r"train0\.png"):
        _degrade(clean, "fog", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_an_image_may_be_called_na(make_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    clean = make_dataset(train=1, val=1, test=1)
    for kind, suffix in (("images", "png"), ("labels", "txt"), ("masks", "png")):
        (clean.folder / "test" / kind / f"test0.{suffix}").rename(clean.folder / "test" / kind / f"NA.{suffix}")
    degraded = _degrade(clean, "fog", tmp_path / "x")
    assert "NA" in list(read_manifest(degraded.folder)["id"])
    assert _redone(clean, degraded) == 3
