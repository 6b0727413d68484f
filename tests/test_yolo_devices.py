"""YOLO on several GPUs: the setting reaches ultralytics, and what its own processes train comes back."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics.engine import trainer as library
from ultralytics.utils import NUM_THREADS

from data.dataset import Dataset
from models.tasks import TaskError, get_task, yolo_resume, yolo_training
from models.tasks import yolo_training as ours
from models.tasks.contract import Task
from pipeline.training.loop import Loop

pytestmark = pytest.mark.filterwarnings("ignore")  # of the library behind the task
SETTINGS = {"model": "yolo11n.yaml", "image_size": 64, "epochs": 2, "batch": 4, "learning_rate": 1e-3, "mosaic": 0.0}


def _fit(dataset: Dataset, work: Path, **settings: Any) -> Task[Any]:
    loop, batches = Loop("detection", work, 0, torch.device("cpu")), lambda crop, batch: lambda step: ()
    classes = dataset.info.classes["detection"]
    task: Any = get_task("detection")
    return task.fit(dataset.split("train"), batches, classes, {**SETTINGS, **settings}, loop)


@pytest.mark.parametrize(
    ("device", "gpus", "batch", "text"),
    [
        ("0,1", 0, 4, r"^train_task\.detection\.device: '0,1': this machine has 0 GPUs"),
        ("0,2", 2, 4, r"^train_task\.detection\.device: '0,2': this machine has 2 GPUs"),
        ("1,1", 2, 4, r"^train_task\.detection\.device: '1,1': this machine has 2 GPUs.*different GPUs"),
        ("0,1", 2, 5, r"^train_task\.detection\.batch: 5 cannot be shared evenly by the 2 GPUs of device"),
    ],
)
def test_gpus_that_do_not_fit_are_one_line(
    make_dataset: Callable[..., Dataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    gpus: int,
    batch: int,
    text: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(TaskError, match=text) as error:
        _fit(make_dataset(), tmp_path / "work", device=device, batch=batch)
    assert "\n" not in str(error.value)


def test_the_devices_reach_ultralytics(
    make_dataset: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def select(device: str, **_: Any) -> torch.device:
        seen.append(device)
        raise RuntimeError("far enough")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(library, "select_device", select)
    with pytest.raises(RuntimeError, match="far enough"):
        _fit(make_dataset(), tmp_path / "work", device="0,1")
    assert seen == ["0,1"]


def test_what_its_own_processes_train_is_what_this_one_would(
    make_dataset: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are no GPUs here: the file that each of ultralytics' processes runs is run once, on the CPU."""
    dataset = make_dataset(train=6, test=1)
    with monkeypatch.context() as patch:  # which is for checkpoints, and makes another order of images
        patch.setattr(yolo_resume.Checkpoint, "start_epoch", staticmethod(lambda trainer: None))
        with _threads(NUM_THREADS):  # those of its processes on a CPU: the last bits depend on them
            whole = _fit(dataset, tmp_path / "whole").network.state_dict()
    make_trainer = yolo_training._trainer

    def in_processes(*arguments: Any) -> Any:
        trainer = make_trainer(*arguments)
        trainer.ddp = True
        return trainer

    def command(trainer: Any) -> tuple[list[str], str]:
        file = library_file(trainer)
        return [sys.executable, file], file

    from ultralytics.utils.dist import generate_ddp_file as library_file

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(ours, "_devices", lambda *_: "cpu")
    monkeypatch.setattr(ours, "_trainer", in_processes)
    monkeypatch.setattr(library, "generate_ddp_command", command)
    trained = _fit(dataset, tmp_path / "processes", device="0,1")
    assert trained.network.names == {0: "square", 1: "bar"}
    for name, value in whole.items():
        assert torch.equal(trained.network.state_dict()[name], value), name


def test_torch_keeps_its_threads(make_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    dataset = make_dataset()
    with _threads(3):  # the library would take all cores but one
        task = _fit(dataset, tmp_path / "work", epochs=1)
        assert torch.get_num_threads() == 3
        task.predict(dataset.split("train").image(dataset.split("train").ids[0]))
        assert torch.get_num_threads() == 3


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
