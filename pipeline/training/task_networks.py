"""Training of a task network, on clean images or on the images of an arm."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from data.batches import MaskBatches
from data.dataset import Dataset
from models.tasks import get_task
from models.tasks.contract import Task
from pipeline.running.digests import checkpoint_folder, fingerprint
from pipeline.running.seeds import choose_device, seed_for
from pipeline.settings.plugins import plugin_modules
from pipeline.training.loop import Loop


def task_checkpoint_folder(
    seed: int, name: str, section: Mapping[str, Any], plan: Path, dataset: Dataset, start: Path | None = None
) -> Path:
    """The folder of the checkpoints of one training.

    Args:
        seed: of the training, from `task_seed`.
        name: of the task.
        section: its settings, as in train_task.<name>.
        plan: what the stage `plan` wrote about the files of the task's network.
        dataset: its split `train` is the training data.
        start: folder of a saved network that the training starts from; None: what the task's section says.
    """
    inputs = fingerprint(dataset.split("train").folder, *([start] if start else []))
    code = ["pipeline.training.task_networks", plugin_modules("tasks")[name]]
    return checkpoint_folder(code, seed, dict(section), plan.read_text(), inputs)


def task_seed(seed: int, name: str, number: int = 1) -> int:
    """The seed of training `number` of a task's network, from 1. The order of the data depends on it."""
    return seed_for(seed, "task", name, *([number] if number > 1 else []))


def train_task_network(
    seed: int,
    name: str,
    section: Mapping[str, Any],
    dataset: Dataset,
    work: Path,
    stream: Any,
    description: str,
    start: Path | None = None,
) -> tuple[Task[Any], Loop]:
    """Train a task network on the split `train`.

    Args:
        seed: of the training, from `task_seed`.
        name: of the task.
        section: its settings, as in train_task.<name>.
        dataset: images and labels.
        work: folder for checkpoints.
        stream: called with (step, values) while it runs.
        description: of the progress bar.
        start: folder of a saved network that the training starts from; None: what the task's section says.
    """
    split = dataset.split("train")
    loop = Loop(description, work, seed % 2**31, choose_device(), stream)
    make_batches = partial(MaskBatches, split, seed)  # the task adds crop and batch
    task, settings = get_task(name), {**section} | ({"weights": str(start)} if start else {})
    classes = dataset.info.classes_of(task.labels, name)
    return task.fit(split, make_batches, classes, settings, loop), loop
