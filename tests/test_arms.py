"""Arms: which images they get, by which network they are judged, with what they are compared."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.dataset import Dataset, write_info
from models.restorers import RestorerError, build_restorer, save_restorer
from pipeline import arm, arm_images
from pipeline.metrics import MeanRecords
from pipeline.reporting import score_rows
from pipeline.running.artifacts import ON_CLEAN_FOLDER, RECORDS_FILE
from pipeline.settings.params import ParamsError, load_params
from pipeline.statistics.comparison import ONE_TRAINING
from pipeline.statistics.resampling import Resamples
from pipeline.statistics.systems import System
from pipeline.training import task_networks

PARAMS = load_params(Path(__file__).parents[1] / "params.tiny.yaml")
SMALL = {"width": 4, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]}


@pytest.fixture
def restorers(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    restorer = build_restorer("nafnet", SMALL)
    with torch.no_grad():
        for parameter in restorer.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    (tmp_path / "restorers" / "pixel").mkdir(parents=True)
    save_restorer(tmp_path / "restorers" / "pixel" / "restorer.safetensors", restorer.eval())
    return tmp_path / "restorers"


def _images(name: str, clean: Dataset, degraded: Dataset, restorers: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    out = clean.folder.parent / "images" / name
    folders = ["--clean", str(clean.folder), "--degraded", str(degraded.folder), "--restorers", str(restorers)]
    folders += ["--objectives", str(restorers.parent / "objectives")]
    monkeypatch.setattr("sys.argv", ["arm_images", "--arm", name, *folders, "--out", str(out)])
    monkeypatch.setattr(arm_images, "load_params", lambda: PARAMS)
    arm_images.main()
    return Dataset.open(out)


@pytest.mark.parametrize(
    ("name", "source", "splits"),
    [
        ("degraded-retrained", "degraded", ["train", "test"]),
        ("pixel-retrained", "degraded", ["train", "test"]),
        ("clean-restored-pixel", "clean", ["test"]),
    ],
)
def test_images_of_an_arm(
    make_dataset: Callable[..., Dataset],
    restorers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    source: str,
    splits: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    clean, degraded = make_dataset("clean"), make_dataset("degraded")
    groups = {"train": {"train0": "a"}, "test": {"test0": "b"}}
    for dataset in (clean, degraded):
        write_info(dataset.folder, replace(dataset.info, groups=groups))
    found = _images(name, clean, degraded, restorers, monkeypatch)
    given = {"clean": clean, "degraded": degraded}[source]
    assert list(found.info.splits) == splits
    assert found.info.groups == {split: groups[split] for split in splits}
    for split in splits:
        for id in given.split(split).ids:
            assert np.array_equal(found.split(split).mask(id), given.split(split).mask(id))
            assert np.array_equal(found.split(split).boxes(id), given.split(split).boxes(id))
            same = np.array_equal(found.split(split).image(id), given.split(split).image(id))
            assert same == (name == "degraded-retrained")
    on_clean = found.folder / ON_CLEAN_FOLDER
    assert on_clean.exists() == (name != "clean-restored-pixel")
    if on_clean.exists():
        test, written = clean.split("test"), Dataset.open(on_clean).split("test")
        assert Dataset.open(on_clean).info.groups == {"test": groups["test"]} and written.ids == test.ids
        for id in test.ids:
            assert np.array_equal(written.mask(id), test.mask(id))
            assert np.array_equal(written.image(id), test.image(id)) == (name == "degraded-retrained")


def test_a_missing_restorer_is_not_passed_over(
    make_dataset: Callable[..., Dataset], restorers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    clean, degraded = (make_dataset(name, (64, 64), train=2, test=2) for name in ("clean", "degraded"))
    shutil.rmtree(restorers / "pixel")
    with pytest.raises(RestorerError, match="no such restorer checkpoint"):
        _images("pixel-retrained", clean, degraded, restorers, monkeypatch)


def test_a_name_that_is_no_arm_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arm_images, "load_params", lambda: PARAMS)
    names = ("clean", "degraded", "restorers", "objectives", "out")
    folders = [word for name in names for word in (f"--{name}", str(tmp_path))]
    monkeypatch.setattr("sys.argv", ["arm_images", "--arm", "retraind", *folders])
    with pytest.raises(ParamsError, match=r"--arm: 'retraind' is no arm\. Choose degraded-retrained"):
        arm_images.main()


@pytest.mark.parametrize("name", ["degraded-retrained", "clean-restored-pixel"])
def test_a_network_is_trained_only_where_the_arm_asks(
    make_dataset: Callable[..., Dataset], restorers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    clean, degraded = (
        make_dataset("clean", (64, 64), train=6, test=2),
        make_dataset("degraded", (64, 64), train=6, test=2),
    )
    images = _images(name, clean, degraded, restorers, monkeypatch)
    section = {**PARAMS.train_task["segmentation"], "steps": 2, "batch": 2, "crop": 32}
    params = PARAMS.model_copy(update={"train_task": {"segmentation": section}})
    from pipeline.metrics import get_scoring

    plan = tmp_path / "segmentation.json"
    plan.write_text(json.dumps({}))
    trained: list[Path] = []
    fit = task_networks.train_task_network

    def watched(*args: Any) -> Any:
        trained.append(args[3])
        return fit(*args)

    network, _ = fit(params, "segmentation", clean, tmp_path / "work" / "x", lambda s, v: None, "train x")
    (tmp_path / "network").mkdir()
    network.save(tmp_path / "network")
    monkeypatch.setattr(arm, "train_task_network", watched)
    monkeypatch.setattr(arm, "load_params", lambda: params)
    words = ["--task", "segmentation", "--arm", name, "--plan", str(plan), "--images", str(images.folder)]
    unread = [
        word
        for option in ("degradation", "clean", "degraded", "restorers", "prior")
        for word in (f"--{option}", "none")
    ]
    words += ["--network", str(tmp_path / "network"), "--out", "out", "--costs", "costs.json"]
    monkeypatch.setattr("sys.argv", ["arm", *words, *unread])
    arm.main()
    assert ("training_seconds" in json.loads(Path("costs.json").read_text())) == (name == "degraded-retrained")
    assert bool(trained) == (name == "degraded-retrained")
    assert (tmp_path / "out" / "test" / RECORDS_FILE).exists()
    on_clean = tmp_path / "out" / ON_CLEAN_FOLDER / "test" / RECORDS_FILE
    assert on_clean.exists() == (name == "degraded-retrained")
    assert get_scoring("segmentation").read(tmp_path / "out" / "test" / "predictions").keys() == set(
        images.split("test").ids
    )


def _cell(names: list[str]) -> dict[str, System]:
    """Each variant scores 1 more than the one before, on each of six images."""
    resamples = Resamples.draw(np.arange(6), 100, 0)
    return {
        name: System.from_tables(
            [MeanRecords.from_values({f"i{k}": {"s": n + k / 9} for k in range(6)})],
            resamples,
            trained=name not in ("clean", "degraded", "clean-restored-pixel"),
        )
        for n, name in enumerate(names)
    }


def test_comparisons_have_the_arms_beside_them() -> None:
    names = [
        "clean",
        "degraded",
        "pixel",
        "diffloss",
        "degraded-retrained",
        "diffloss-retrained",
        "clean-restored-pixel",
    ]
    cell = _cell(names)
    pairs = {(row["variant"], row["versus"]) for row in score_rows.gain_rows("t", "fog", cell, 0.95)}
    expected = {
        *((name, "degraded") for name in ("clean", "pixel", "diffloss", "degraded-retrained", "diffloss-retrained")),
        ("diffloss", "pixel"),
        *((name, "degraded-retrained") for name in ("pixel", "diffloss", "diffloss-retrained")),
        ("clean-restored-pixel", "clean"),
    }
    assert pairs == expected
    reasons = {(row["variant"], row["versus"]): row["reason"] for row in score_rows.gain_rows("t", "fog", cell, 0.95)}
    assert reasons["diffloss", "pixel"] == ONE_TRAINING
    for variant in ("pixel", "diffloss-retrained"):
        assert reasons[variant, "degraded-retrained"] == score_rows.RETRAINED_ONCE
    assert not any("training" in reasons[pair] for pair in reasons if pair[1] in ("degraded", "clean"))
    cell["longer"] = cell["pixel"]
    with_two = score_rows.gain_rows("t", "fog", cell, 0.95, ["pixel", "longer"])
    added = {("longer", "degraded"), ("longer", "degraded-retrained"), ("longer", "pixel"), ("diffloss", "longer")}
    assert {(row["variant"], row["versus"]) for row in with_two} == expected | added


def test_an_objective_can_be_a_baseline_of_the_others() -> None:
    cell = _cell(["degraded", "pixel", "task", "task-seg", "diffloss"])
    gains = score_rows.gain_rows("t", "fog", cell, 0.95, ["pixel"], ["task", "task-seg", "absent"])
    pairs = [(row["variant"], row["versus"]) for row in gains if row["versus"] not in ("degraded", "pixel")]
    assert pairs == [("task-seg", "task"), ("diffloss", "task"), ("diffloss", "task-seg")]
    against_pixel = [row["variant"] for row in gains if row["versus"] == "pixel"]
    assert against_pixel == ["task", "task-seg", "diffloss"]
    (row,) = (row for row in gains if (row["variant"], row["versus"]) == ("diffloss", "task"))
    assert row["gain"] == pytest.approx(2)
