"""Recognition tasks: networks that are trained on clean images and then judge restored ones.

To add one, write a module with a class that obeys models.tasks.contract.Task and add a line to TASKS.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .contract import Task


class TaskError(ValueError):
    """A task that cannot be built, loaded or trained with what it was given."""


TASKS = {
    "detection": ".detection:Detection",
    "instance-segmentation": ".instance_segmentation:InstanceSegmentation",
    "segmentation": ".segmentation:Segmentation",
    "classification": ".classification:Classification",
}


def get_task(name: str) -> "type[Task[Any]]":
    """Look a task class up by name; its libraries are imported only now.

    Raises:
        TaskError: no such task; the text lists what exists.
    """
    if name not in TASKS:
        raise TaskError(f"no task {name!r}; there are: {', '.join(TASKS)}")
    module, attribute = TASKS[name].split(":")
    task: type[Task[Any]] = getattr(import_module(module, __package__), attribute)
    return task
