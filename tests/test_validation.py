"""Choosing by validation images: the best weights, an early stop, and never by what is reported."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from data.batches import PairBatches
from data.dataset import Dataset
from models.losses import build_objective
from models.restorers import save_restorer
from models.restorers.contract import Restorer
from pipeline.metrics.fidelity import FIDELITY
from pipeline.quality import measure
from pipeline.running.artifacts import read_from
from pipeline.running.restoring import restore_split
from pipeline.settings.training import NO_VALIDATION, Restore, TrainRestorer, Validation
from pipeline.training.loop import Loop
from pipeline.training.optimisation import TrainingError
from pipeline.training.restorers import train_restorer
from pipeline.training.validation import Validator, build_validator

SETTINGS = TrainRestorer.model_validate(
    {
        "restorer": "nafnet",
        "nafnet": {"width": 4, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]},
        "crop": 16,
        "steps": 12,
        "batch": 2,
        "learning_rate": 1e-3,
    }
)


def _validation(**changes: Any) -> Validation:
    return NO_VALIDATION.model_copy(update={"every": 2, **changes})


@pytest.fixture
def data(make_dataset: Callable[..., Dataset]) -> tuple[Dataset, Dataset]:
    """Degraded and clean."""
    return make_dataset("degraded", train=5, val=3, test=2), make_dataset("clean", train=5, val=3, test=2)


@pytest.fixture
def train(data: tuple[Dataset, Dataset], tmp_path: Path) -> Callable[..., Any]:
    def do(run: str, validator: Validator | None, **changes: Any) -> tuple[Restorer, Loop]:
        loop = Loop(run, tmp_path / run, 0, torch.device("cpu"))
        degraded, clean = (dataset.split("train") for dataset in data)
        batches = PairBatches(degraded, clean, 16, 2, 0)
        settings = SETTINGS.model_copy(update=changes)
        return train_restorer(batches, build_objective({"pixel": ("pixel", {})}), settings, loop, validator), loop

    return do


class _Planned(Validator):
    """Measures what it is told, and remembers the weights that it saw."""

    def __init__(self, data: tuple[Dataset, Dataset], settings: Validation, values: list[float]) -> None:
        super().__init__([data[0].split("val")], data[1].split("val"), settings)
        self.values = values
        self.seen: list[dict[str, torch.Tensor]] = []

    def _measure(self, restorer: Restorer) -> float:
        self.seen.append({name: weight.clone() for name, weight in restorer.state_dict().items()})
        return self.values[len(self.seen) - 1]


def _same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("metric", ["psnr", "ssim"])
def test_it_measures_what_the_stage_quality_measures(
    data: tuple[Dataset, Dataset], train: Callable[..., Any], tmp_path: Path, metric: str
) -> None:
    validator = build_validator([data[0]], data[1], _validation(metric=metric, every=12))
    restorer, loop = train("run", validator)
    restored = tmp_path / "restored"
    restored.mkdir()
    restore_split(lambda: restorer, data[0].split("val"), Restore(tile=None, overlap=0), restored, "")
    readers = {("pixel", "val"): partial(read_from, restored)}
    records = measure(data[1].split("val"), readers, FIDELITY)["pixel", "val"]
    assert loop.curve[12][f"val_{metric}"] == pytest.approx(float(records.metrics()[metric.upper()][0]))
    assert f"val_{metric}" not in loop.curve[11]


def test_watching_changes_nothing(data: tuple[Dataset, Dataset], train: Callable[..., Any]) -> None:
    watched, _ = train("watched", build_validator([data[0]], data[1], _validation()))
    assert _same(watched.state_dict(), train("alone", None)[0].state_dict())


def test_the_best_weights_are_kept(data: tuple[Dataset, Dataset], train: Callable[..., Any]) -> None:
    validator = _Planned(data, _validation(keep_best=True), [1, 5, 3, 5, 2, 4])
    restorer, loop = train("run", validator, ema=0.5)
    assert _same(restorer.state_dict(), validator.seen[1])  # the first of two equal ones
    assert not _same(restorer.state_dict(), validator.seen[-1])
    assert [values["val_psnr"] for values in loop.curve.values() if "val_psnr" in values] == [1, 5, 3, 5, 2, 4]


def test_the_running_mean_is_what_is_validated(data: tuple[Dataset, Dataset], train: Callable[..., Any]) -> None:
    plain, mean = (_Planned(data, _validation(), [1.0] * 6) for _ in range(2))
    train("plain", plain)
    restorer, _ = train("mean", mean, ema=0.5)
    assert not _same(plain.seen[-1], mean.seen[-1])  # the mean changes nothing of the training itself
    assert _same(restorer.state_dict(), mean.seen[-1])


def test_patience_stops(data: tuple[Dataset, Dataset], train: Callable[..., Any]) -> None:
    validator = _Planned(data, _validation(patience=2), [1, 5, 3, 5, 9, 9])
    restorer, loop = train("run", validator)
    assert max(loop.curve) == 8 and loop.steps_run == 8
    assert _same(restorer.state_dict(), validator.seen[-1])  # not keep_best: the last ones


@pytest.mark.parametrize("kill_at", [1, 3, 5, 8])
def test_a_kill_changes_no_byte_with_everything_on(
    data: tuple[Dataset, Dataset],
    train: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kill_at: int,
) -> None:
    settings = _validation(keep_best=True, patience=2)
    everything = {"warm_up": 3, "ema": 0.8, "precision": "bf16", "clip": 0.1}

    def run(name: str) -> bytes:
        restorer, loop = train(name, build_validator([data[0]], data[1], settings), **everything)
        save_restorer(tmp_path / f"{name}.safetensors", restorer)
        curves[name] = loop.curve
        return (tmp_path / f"{name}.safetensors").read_bytes()

    curves: dict[str, Any] = {}
    # Values that rise, fall and so stop the training after step 8, whatever the weights are.
    monkeypatch.setattr(Validator, "_measure", lambda self, restorer: {2: 1.0, 4: 5.0}.get(len(log) + 1, 2.0))
    log: list[int] = []
    original = Loop.log

    def logged(self: Loop, step: int, **values: float) -> None:
        original(self, step, **values)
        log[:] = range(step)
        if step == kill_at and armed.pop("kill", False):
            raise KeyboardInterrupt

    monkeypatch.setattr(Loop, "log", logged)
    monkeypatch.setattr("pipeline.training.loop.CHECKPOINT_SECONDS", 0.0)
    armed: dict[str, bool] = {}
    whole = run("whole")
    assert max(curves["whole"]) == 8
    armed["kill"] = True
    with pytest.raises(KeyboardInterrupt):
        run("killed")
    assert run("killed") == whole
    assert curves["killed"] == curves["whole"]


def test_other_splits_are_not_read(make_dataset: Callable[..., Dataset]) -> None:
    clean = make_dataset("clean", train=1, val=2, test=2)
    for split in ("train", "test"):
        shutil.rmtree(clean.folder / split)
    validator = build_validator([clean], clean, _validation())
    assert validator is not None
    identity = Restorer(torch.nn.Conv2d(3, 3, 1), "test", {}, 1)
    assert set(validator(2, identity)) == {"val_psnr"} and validator(3, identity) == {}


@pytest.mark.parametrize("images", [1, None])
def test_fewer_images(data: tuple[Dataset, Dataset], images: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    validator = build_validator([data[0]], data[1], _validation(images=images))
    assert validator is not None
    assert len(validator._ids) == (images or 3)


CHOICES = [{"keep_best": True}, {"patience": 3}]


@pytest.mark.parametrize("choice", CHOICES)
def test_what_is_reported_does_not_choose(make_dataset: Callable[..., Dataset], choice: dict[str, Any]) -> None:
    clean = make_dataset("clean", train=1, val=1)
    with pytest.raises(TrainingError, match=r"results are reported on 'val'.*The split of the results must not choose"):
        build_validator([clean], clean, _validation(**choice))
    assert build_validator([clean], clean, _validation()) is not None  # watching is allowed


@pytest.mark.parametrize("counts", [{"train": 1, "test": 1}, {"train": 1, "val": 0, "test": 1}])
def test_no_validation_images(make_dataset: Callable[..., Dataset], counts: dict[str, int]) -> None:
    clean = make_dataset("clean", **counts)
    with pytest.raises(TrainingError, match=r"has no split 'val'\. Set every: null"):
        build_validator([clean], clean, _validation())
    assert build_validator([clean], clean, NO_VALIDATION) is None
