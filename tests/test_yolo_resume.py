"""A YOLO training that is killed goes on to the very weights that it would have had."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from data.dataset import Dataset
from models.tasks import get_task, yolo_resume
from models.tasks.contract import Task
from pipeline.training.loop import Loop

pytestmark = pytest.mark.filterwarnings("ignore")  # of the library behind the task
EPOCHS = 5  # mosaic closes in the last one
IMAGES = {"yolo11n.yaml": 12, "yolo11n-seg.yaml": 9, "yolo26n.yaml": 5}  # 12: a whole number of batches


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


@pytest.mark.parametrize(("model", "epochs_done"), [("yolo11n.yaml", 2), ("yolo11n-seg.yaml", 4), ("yolo26n.yaml", 3)])
def test_a_killed_training_ends_with_the_same_weights(
    model: str, epochs_done: int, make_dataset: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yolo_resume, "CHECKPOINT_SECONDS", 0.0)
    dataset = make_dataset(train=IMAGES[model], test=1)
    whole, loop = _train(dataset, tmp_path / "whole", model)
    steps = loop.steps_run // EPOCHS
    with pytest.raises(KilledError):
        _train(dataset, tmp_path / "killed", model, dies_at=epochs_done * steps + 2)
    assert (tmp_path / "killed" / "yolo-checkpoint.pt").exists()
    torch.rand(7)  # another process would not have this one's random state either
    resumed, resumed_loop = _train(dataset, tmp_path / "killed", model)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], value), name
    assert resumed_loop.curve == loop.curve
    assert resumed_loop.steps_run == loop.steps_run
    assert list((tmp_path / "killed").iterdir()) == []


def test_the_checkpoint_matters(
    make_dataset: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the state of the random generators the weights would differ: the comparison above sees it."""
    monkeypatch.setattr(yolo_resume, "CHECKPOINT_SECONDS", 0.0)
    dataset = make_dataset(train=5, test=1)
    whole, _ = _train(dataset, tmp_path / "whole", "yolo11n.yaml")
    with pytest.raises(KilledError):
        _train(dataset, tmp_path / "killed", "yolo11n.yaml", dies_at=5)
    monkeypatch.setattr(yolo_resume, "_set_random_state", lambda saved, generator: None)
    resumed, _ = _train(dataset, tmp_path / "killed", "yolo11n.yaml")
    name = "model.0.conv.weight"
    assert not torch.equal(whole.network.state_dict()[name], resumed.network.state_dict()[name])
