"""Training of a task network, on clean images or on the images of an arm."""

from functools import partial
from pathlib import Path
from typing import Any

from data.batches import MaskBatches
from data.dataset import Dataset
from models.tasks import get_task
from models.tasks.contract import Task
from pipeline.running.digests import checkpoint_folder, fingerprint
from pipeline.running.seeds import choose_device, seed_for
from pipeline.settings.params import Params
from pipeline.settings.plugins import plugin_modules
from pipeline.training.loop import Loop


def task_checkpoint_folder(params: Params, name: str, plan: Path, dataset: Dataset, start: Path | None = None) -> Path:
    """The folder of the checkpoints of one training.

    Args:
        params: seed and the task's section.
        name: of the task.
        plan: what the stage `plan` wrote about the files of the task's network.
        dataset: its split `train` is the training data.
        start: folder of a saved network that the training starts from; None: what the task's section says.
    """
    inputs = fingerprint(dataset.split("train").folder, *([start] if start else []))
    code = ["pipeline.training.task_networks", plugin_modules("tasks")[name]]
    return checkpoint_folder(code, params.seed, params.task_settings(name), plan.read_text(), inputs)


def train_task_network(
    params: Params,
    name: str,
    dataset: Dataset,
    work: Path,
    stream: Any,
    description: str,
    start: Path | None = None,
) -> tuple[Task[Any], Loop]:
    """Train a task network on the split `train`. The seed, and so the order of the data, depends on the task's name.

    Args:
        params: seed and the task's section.
        name: of the task.
        dataset: images and labels.
        work: folder for checkpoints.
        stream: called with (step, values) while it runs.
        description: of the progress bar.
        start: folder of a saved network that the training starts from; None: what the task's section says.
    """
    seed = seed_for(params.seed, "task", name)
    split = dataset.split("train")
    loop = Loop(description, work, seed % 2**31, choose_device(), stream)
    make_batches = partial(MaskBatches, split, seed)  # the task adds crop and batch
    task, settings = get_task(name), params.task_settings(name) | ({"weights": str(start)} if start else {})
    classes = dataset.info.classes_of(task.labels, name)
    return task.fit(split, make_batches, classes, settings, loop), loop
