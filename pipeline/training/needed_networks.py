"""Which trained task network the losses of an objective need."""

from collections.abc import Mapping, Sequence
from typing import Any

from models.losses import get_loss
from models.tasks import TASKS, get_task
from pipeline.settings.params import PARAMS_FILE, ParamsError
from pipeline.settings.plugins import check_section

Losses = Mapping[str, tuple[str, Mapping[str, Any]]]  # name -> kind and settings, as `objective_losses` returns them


def task_network(losses: Losses, tasks: Sequence[str]) -> str | None:
    """The task whose trained network the losses of an objective need; None if no loss needs one.

    Raises:
        ParamsError: it is not among the tasks, has no training loss although one is needed, or is not the same for all.
    """
    networks: dict[str, str] = {}
    for name, (kind, settings) in losses.items():
        if get_loss(kind).needs_task:
            key = f"{PARAMS_FILE}: losses.{name}.network"
            network: str = check_section("losses", kind, settings, f"losses.{name}").network
            if network not in tasks:
                raise ParamsError(f"{key}: {network!r} is not among the tasks. Choose one of {', '.join(tasks)}.")
            if get_loss(kind).needs_labels and not get_task(network).has_training_loss:
                choices = ", ".join(task for task in TASKS if get_task(task).has_training_loss)
                raise ParamsError(f"{key}: {network!r} has no training loss for crops. Choose one of {choices}.")
            networks[name] = network
    if len(set(networks.values())) > 1:
        both = ", ".join(f"losses.{name}.network is {network!r}" for name, network in networks.items())
        raise ParamsError(f"{PARAMS_FILE}: {both}. Choose the same task: an objective has one task network.")
    return next(iter(networks.values()), None)
