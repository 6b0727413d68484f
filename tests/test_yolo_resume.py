"""A YOLO training that is killed goes on to the very weights that it would have had."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import write_dataset

from data.dataset import Dataset
from models.tasks import get_task, yolo_resume
from models.tasks.contract import Task
from pipeline.training.loop import Loop

pytestmark = pytest.mark.filterwarnings("ignore")  # of the library behind the task
EPOCHS = 4  # mosaic closes in the last one
IMAGES = {"yolo11n.yaml": 12, "yolo11n-seg.yaml": 9, "yolo26n.yaml": 5}  # 12: a whole number of batches
EPOCHS_DONE = {"yolo11n.yaml": 1, "yolo11n-seg.yaml": 3, "yolo26n.yaml": 2}


class KilledError(Exception):
    pass


class KilledLoop(Loop):
    """A loop that dies in the middle of an epoch, as a kill would have it."""

    dies_at = 0

    def count(self, seconds: float) -> None:
        super().count(seconds)
        if self.steps_run == self.dies_at:
            raise KilledError


def _train(dataset: Dataset, work: Path, model: str, dies_at: int = 0) -> tuple[Task[Any], Loop]:
    name = "instance-segmentation" if "seg" in model else "detection"
    settings = {"model": model, "image_size": 64, "epochs": EPOCHS, "batch": 4, "learning_rate": 1e-3, "mosaic": 0.5}
    loop = KilledLoop(name, work, 0, torch.device("cpu"))
    loop.dies_at = dies_at
    batches: Any = None
    classes = dataset.info.classes[name]
    return get_task(name).fit(dataset.split("train"), batches, classes, settings, loop), loop


@dataclass(frozen=True)
class Case:
    """A training that ran through, and the work folder of one with the same settings that was killed."""

    dataset: Dataset
    whole: Task[Any]
    loop: Loop
    killed: Path

    def resume(self, model: str, work: Path) -> tuple[Task[Any], Loop]:
        """Finish the killed training in a copy of its work folder."""
        shutil.copytree(self.killed, work)
        torch.rand(7)  # another process would not have this one's random state either
        return _train(self.dataset, work, model)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Case]]:
    """Trains each network once for all tests."""

    def make(model: str) -> Case:
        folder = tmp_path_factory.mktemp("case")
        dataset = write_dataset(folder, train=IMAGES[model], test=1)
        whole, loop = _train(dataset, folder / "whole", model)
        steps = loop.steps_run // EPOCHS
        with pytest.raises(KilledError):
            _train(dataset, folder / "killed", model, dies_at=EPOCHS_DONE[model] * steps + 2)
        assert (folder / "killed" / "yolo-checkpoint.pt").exists()
        return Case(dataset, whole, loop, folder / "killed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yolo_resume, "CHECKPOINT_SECONDS", 0.0)
        yield cache(make)


@pytest.mark.parametrize("model", IMAGES)
def test_a_killed_training_ends_with_the_same_weights(model: str, case: Callable[[str], Case], tmp_path: Path) -> None:
    whole, loop = case(model).whole, case(model).loop
    resumed, resumed_loop = case(model).resume(model, tmp_path / "killed")
    for name, value in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], value), name
    assert resumed_loop.curve == loop.curve
    assert resumed_loop.steps_run == loop.steps_run
    assert list((tmp_path / "killed").iterdir()) == []


def test_the_checkpoint_matters(case: Callable[[str], Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the state of the random generators the weights would differ: the comparison above sees it."""
    model, name = "yolo26n.yaml", "model.0.conv.weight"
    monkeypatch.setattr(yolo_resume, "_set_random_state", lambda saved, generator: None)
    resumed, _ = case(model).resume(model, tmp_path / "killed")
    assert not torch.equal(case(model).whole.network.state_dict()[name], resumed.network.state_dict()[name])
