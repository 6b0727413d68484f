"""Training a task asks nothing of the network. The first training of a process asks most, so this comes first."""

import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from data.batches import MaskBatches
from data.dataset import Dataset
from models.tasks import get_task
from pipeline.training.loop import Loop

SETTINGS = {
    "model": "yolo11n.yaml",
    "weights": None,
    "image_size": 64,
    "epochs": 1,
    "batch": 4,
    "learning_rate": 1e-3,
    "mosaic": 0.0,
}


@pytest.mark.filterwarnings("ignore")
def test_training_a_detector_opens_no_connection(
    make_dataset: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def refuse(*arguments: object, **_: object) -> None:
        asked.append(arguments)
        raise ConnectionError

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    dataset = make_dataset()
    split = dataset.split("train")
    loop = Loop("detection", tmp_path / "work", 0, torch.device("cpu"))
    task = get_task("detection").fit(
        split, partial(MaskBatches, split, 0), dataset.info.classes["detection"], SETTINGS, loop
    )
    task.predict(split.image(split.ids[0]))
    assert not asked
