"""Degraded images made again by the command."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from data import images
from data.dataset import Dataset
from pipeline.commands import redo_image
from pipeline.datasets.manifests import ManifestError
from pipeline.datasets.recipes import recipe_of
from pipeline.degrade import degrade_dataset
from pipeline.settings.data import Degrade


@pytest.fixture
def run(make_dataset: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs the command beside a dataset that is degraded with two severities."""
    clean = make_dataset()
    settings = Degrade.model_validate({"severity": [1, 4]})
    degrade_dataset(clean, recipe_of(settings, "fog"), settings, 0, tmp_path / "degraded" / "fog")
    monkeypatch.chdir(tmp_path)

    def command(*words: str) -> None:
        arguments = [*words, "--clean", str(clean.folder), "--degraded", "degraded"]
        monkeypatch.setattr(sys, "argv", ["redo_image", *arguments])
        redo_image.main()

    return command


def test_all_severities_of_an_image_are_made_again(
    run: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    run("test1")
    for split in ("test@1", "test@4"):
        stored = Path("degraded/fog") / split / "images" / "test1.png"
        assert Path(f"redone/fog-{split}-test1.png").read_bytes() == stored.read_bytes()
    assert capsys.readouterr().out.count("the same pixels") == 2


def test_a_split_can_be_chosen_and_other_pixels_are_noticed(
    run: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    stored = Path("degraded/fog/test@4/images/test1.png")
    images.write_image(stored, 255 - images.read_image(stored))
    run("test1", "--split", "test@4", "--out", "chosen")
    assert [path.name for path in Path("chosen").iterdir()] == ["fog-test@4-test1.png"]
    assert "NOT the same pixels" in capsys.readouterr().out


def test_an_unknown_id_is_named(run: Callable[..., None]) -> None:
    with pytest.raises(ManifestError, match="nobody: is in no manifest below degraded"):
        run("nobody")
