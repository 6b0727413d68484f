"""A trial of a network from elsewhere, before anything is trained: it predicts, also once it is saved and loaded."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from . import TaskError
from .contract import Image, Task

SIZE = (70, 90)  # of the image of a trial, in pixels; networks take multiples of 32
TOLERANCE = 1e-3  # of coordinates in pixels, scores and probabilities


def try_weights(task_class: type[Task[Any]], section: Mapping[str, Any]) -> list[str]:
    """Load the network that the setting `weights` names, use it once, and compare it with its library.

    Args:
        task_class: of the task.
        section: train_task.<name> of params.yaml; `weights` is a path.

    Returns:
        The network's class names, in its index order.

    Raises:
        TaskError: the network cannot be used, or predicts something else after loading than before, or than its
            library does.
    """
    weights = Path(section["weights"])
    place = f"train_task.{task_class.name}.weights: {weights}"
    image = _image()
    task = task_class.load_weights(section, None, torch.device("cpu"))
    _check_finite(task.network, place)
    predictions = {"here": task.predict(image)}
    with TemporaryDirectory() as folder:
        task.save(Path(folder))
        predictions["after it is saved"] = task_class.load(Path(folder), task.device).predict(image)
    predictions["in its library"] = task.library_prediction(weights, image)
    for where, prediction in predictions.items():
        if prediction is not None and not _agree(prediction, predictions["here"]):
            raise TaskError(
                f"{place}: the network predicts something else {where} than here, so that its scores would not be "
                "its own. Save it again with the library that trained it, or choose another network"
            )
    return task.network_classes


def _image() -> Image:
    """Coloured noise at two scales, so that networks find something."""
    generator = np.random.default_rng(0)
    coarse = np.kron(generator.integers(0, 256, (7, 9, 3)), np.ones((10, 10, 1)))
    fine = generator.integers(-30, 31, (*SIZE, 3))
    return (coarse + fine).clip(0, 255).astype(np.uint8)


def _check_finite(network: torch.nn.Module, place: str) -> None:
    for name, value in network.state_dict().items():
        if not torch.isfinite(value).all():
            raise TaskError(f"{place}: the weights {name!r} are not finite. Choose a file whose weights are intact")


def _agree(one: Any, other: Any) -> bool:
    """Whether two predictions of one kind are equal up to rounding."""
    fields, others = _fields(one), _fields(other)
    return all(
        np.shape(value) == np.shape(others[name])
        and (
            np.allclose(value, others[name], atol=TOLERANCE)
            if np.issubdtype(np.asarray(value).dtype, np.number)
            else np.array_equal(value, others[name])
        )
        for name, value in fields.items()
    )


def _fields(prediction: Any) -> dict[str, Any]:
    if isinstance(prediction, np.ndarray):
        return {"mask": prediction}
    return prediction._asdict() if hasattr(prediction, "_asdict") else vars(prediction)
