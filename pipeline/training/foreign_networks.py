"""Networks from elsewhere that params.yaml names: each is tried before any work, and its files are digested."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from models.diffusion.prior import DiffusionPrior, PriorError
from models.losses import LossError, get_loss, read_settings
from models.restorers import RestorerError
from models.restorers.checkpoint import try_restorer
from models.tasks import TaskError, get_task
from models.tasks.imagenet import IMAGENET
from models.tasks.trial import try_weights
from pipeline.datasets.importing import open_source
from pipeline.running.digests import digest_files
from pipeline.settings.grammar import CHECKPOINT, FROZEN, is_joint, is_retrained, objective_losses
from pipeline.settings.params import PARAMS_FILE, Params, ParamsError
from pipeline.settings.training import TrainRestorer

LPIPS = "lpips"
WEIGHTS_KEY = f"train_restorer.{CHECKPOINT}.weights"


def describe_task(task: str, settings: Mapping[str, Any], watched: Path) -> dict[str, Any]:
    """A task's name, and the digests of the user's files that its network is made of. Weights are tried.

    Args:
        task: a name in TASKS.
        settings: the section train_task.<task>. Its networks and files must exist.
        watched: the folder whose content DVC tracks; files elsewhere get a note.

    Raises:
        ParamsError: a model or file does not exist or cannot be used; one line that names the key.
    """
    try:
        files = get_task(task).check(settings)
        if settings.get("weights") not in (None, IMAGENET):
            try_weights(get_task(task), settings)
    except TaskError as error:
        raise ParamsError(f"{PARAMS_FILE}: {error}") from error
    return {"task": task, "files": _digests(f"train_task.{task}", files, watched)}


def check_classes(task: str, settings: Mapping[str, Any], classes: list[str], trains: bool = False) -> None:
    """Check that a frozen task network knows the data's classes, and that arms can train it.

    Args:
        task: its name.
        settings: the section that the network is used with, in arms if they train it.
        classes: the data's.
        trains: whether an arm trains it.

    Raises:
        ParamsError: it lacks one; one line that lists the classes of both. Or training cannot start from it.
    """
    try:
        network = get_task(task).load_weights(settings, classes, torch.device("cpu"))
        if trains:
            network.require_own_classes()
    except TaskError as error:
        raise ParamsError(f"{PARAMS_FILE}: {error}") from error


def describe_restorer(settings: TrainRestorer, watched: Path) -> dict[str, Any]:
    """The restorer's name, and the digest of the checkpoint that it starts from; arguments as in `describe_task`.

    Raises:
        ParamsError: the checkpoint does not exist or cannot be used; one line that names the key.
    """
    if settings.restorer != CHECKPOINT:
        return {"restorer": settings.restorer, "files": {}}
    path = Path(settings.network["weights"])
    return {"restorer": _try_checkpoint(path), "files": _digests(WEIGHTS_KEY, [path], watched)}


def _try_checkpoint(path: Path) -> str:
    """The name of the restorer in a file."""
    try:
        return try_restorer(path).name
    except RestorerError as error:
        raise ParamsError(f"{PARAMS_FILE}: {WEIGHTS_KEY}: {error}") from error


def try_losses(params: Params, watched: Path) -> None:
    """Try the networks that objectives read from files: those of their losses, or the checkpoint that is frozen.

    Image quality is measured with the file in `losses.lpips.weights`, so that it is tried whatever the objectives are.

    Raises:
        ParamsError: a file does not exist or cannot be used; one line that names the key.
    """
    if FROZEN in params.objectives:
        path = Path(params.train_restorer.sections[CHECKPOINT]["weights"])
        _try_checkpoint(path)
        _note_if_untracked(WEIGHTS_KEY, path, watched)
    losses: dict[str, tuple[str, dict[str, Any]]] = {}
    for objective in params.objectives:
        losses |= objective_losses(objective, params.losses)
    if params.losses.get(LPIPS, {}).get("weights"):
        losses.setdefault(LPIPS, (LPIPS, params.losses[LPIPS]))
    for name, (kind, section) in losses.items():
        try:
            settings = read_settings(name, kind, section)
            get_loss(kind).check(settings)
        except LossError as error:
            raise ParamsError(f"{PARAMS_FILE}: losses.{name}: {error}") from error
        for path in getattr(settings, "files", []):
            _note_if_untracked(f"losses.{name}", path, watched)


def check_diffusion_losses(params: Params, prior: DiffusionPrior) -> None:
    """Check that the timesteps and layers of the objectives' losses are those of a pretrained prior.

    Raises:
        ParamsError: it has fewer timesteps, or lacks a layer; one line that names the key.
    """
    for objective in params.objectives:
        for name, (kind, section) in objective_losses(objective, params.losses).items():
            settings = read_settings(name, kind, section)
            if get_loss(kind).needs_prior and settings.own_prior is None:
                _check_diffusion_loss(name, settings, prior)


def _check_diffusion_loss(name: str, settings: Any, prior: DiffusionPrior) -> None:
    steps = prior.schedule.steps
    for low, high in (settings.timesteps, *settings.timesteps_of.values()):
        if high > steps:
            raise ParamsError(
                f"{PARAMS_FILE}: losses.{name}: the timesteps [{low}, {high}] do not fit train_prior.pretrained, which "
                f"has {steps}. Choose others."
            )
    try:
        prior.check_layers(settings.layers)
    except PriorError as error:
        raise ParamsError(f"{PARAMS_FILE}: losses.{name}.layers: {error}") from error


def describe_quality(params: Params) -> dict[str, Any]:
    """The digest of the file with LPIPS's weights, which image quality is measured with, if params.yaml names one."""
    weights = params.losses.get(LPIPS, {}).get("weights")
    return {"files": {str(weights): digest_files(Path(weights))} if weights else {}}


def _digests(key: str, files: list[Path], watched: Path) -> dict[str, str]:
    for path in files:
        _note_if_untracked(key, path, watched)
    return {str(path): digest_files(path) for path in files}


def _note_if_untracked(key: str, path: Path, watched: Path) -> None:
    if not path.resolve().is_relative_to(watched.resolve()):
        print(
            f"note: {key}: {path} lies outside {watched}/, so DVC does not see changes of its content. "
            "After a change, run `dvc repro -f plan` first."
        )


def check_frozen_classes(params: Params) -> None:
    """Check that frozen task networks know the data's classes, as far as the source names them without reading images.

    Raises:
        DatasetError: the source cannot be opened.
        ParamsError: a network lacks a class, or an arm cannot train it.
    """
    frozen = [task for task in params.tasks if params.task_settings(task).get("frozen")]
    classes = open_source(params.data, params.seed).classes if frozen else {}
    for task in frozen:
        if known := classes.get(get_task(task).labels):
            check_classes(task, params.task_settings(task), known)
            if any(is_retrained(arm) and not is_joint(arm) for arm in params.arms):
                check_classes(task, params.retraining_settings(task), known, trains=True)
