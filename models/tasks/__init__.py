"""Recognition tasks: networks that are trained on clean images and predict on any images.

To add one, write a module with a class that implements `models.tasks.contract.Task`, a line in TASKS, and a line in
`pipeline.metrics.METRICS` that says how its predictions are scored.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .contract import Task


class TaskError(ValueError):
    """A task cannot be built, loaded or trained; the text names the setting or file."""


TASKS = {
    "detection": ".detection:Detection",
    "instance-segmentation": ".instance_segmentation:InstanceSegmentation",
    "segmentation": ".segmentation:Segmentation",
    "classification": ".classification:Classification",
}


def get_task(name: str) -> "type[Task[Any]]":
    """The class of a task, by its name in TASKS. Imports the task's libraries.

    Raises:
        TaskError: the task is unknown; the text lists all tasks.
    """
    if name not in TASKS:
        raise TaskError(f"no task {name!r}; there are: {', '.join(TASKS)}")
    module, attribute = TASKS[name].split(":")
    task: type[Task[Any]] = getattr(import_module(module, __package__), attribute)
    return task
