"""Training losses. An objective, what a restorer is trained on, is a sum of them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ..data_parallel import SINGLE_RANK, Rank
from ..settings import Settings, first_mistake

if TYPE_CHECKING:
    from torch import Tensor

    from ..diffusion.prior import DiffusionPrior
    from .objective import Objective
    from .term import Labels, Loss

LOSSES = {
    "pixel": ".pixel:Pixel",
    "natural": ".diffusion_terms:Natural",
    "semantic": ".diffusion_terms:Semantic",
    "diffloss": ".diffusion_terms:NaturalAndSemantic",
    "features": ".features:EncoderFeatures",
    "frequency": ".frequency:Frequency",
    "lpips": ".lpips:Lpips",
    "task": ".task:TaskFeatures",
    "recognition": ".recognition:Recognition",
}
PIXEL = "pixel"  # the loss that is part of every objective
TRAINED, UNTRAINED = "trained", "untrained"  # values of the key `prior` of losses; any other names a folder


class LossError(ValueError):
    """A setting or an input that a loss cannot use; the text is one line that names it."""


Losses = Mapping[str, tuple[str, Mapping[str, Any]]]  # name -> entry of LOSSES, and its settings


def get_loss(kind: str) -> "type[Loss]":
    """The class of a loss, with the attributes `needs_prior`, `needs_task` and `needs_labels`.

    Raises:
        LossError: there is no such loss.
    """
    module, _, name = _entry(kind).partition(":")
    loss: type[Loss] = getattr(import_module(module, __package__), name)
    return loss


def get_settings(kind: str) -> type[Settings]:
    """The class of a loss's settings.

    Raises:
        LossError: there is no such loss.
    """
    settings: type[Settings] = import_module(_entry(kind).partition(":")[0], __package__).Settings
    return settings


def needs_prior(losses: Losses) -> bool:
    """Whether any of the losses needs a diffusion prior."""
    return any(get_loss(kind).needs_prior for kind, _ in losses.values())


def needs_task(losses: Losses) -> bool:
    """Whether any of the losses needs a task network."""
    return any(get_loss(kind).needs_task for kind, _ in losses.values())


def needs_labels(losses: Losses) -> bool:
    """Whether any of the losses needs the labels of the images."""
    return any(get_loss(kind).needs_labels for kind, _ in losses.values())


def build_objective(
    losses: Losses,
    *,
    prior_folder: "str | Path | DiffusionPrior | None" = None,
    task_features: "Callable[[Tensor], list[Tensor]] | None" = None,
    task_loss: "Callable[[Tensor, Labels], Tensor] | None" = None,
    rank: Rank = SINGLE_RANK,
) -> "Objective":
    """The sum of some losses.

    Args:
        losses: name -> entry of `LOSSES` and its settings; the pixel loss comes first.
        prior_folder: of the diffusion prior, for losses that need one; or the prior itself.
        task_features: images (N,3,H,W) in [0,1] to feature maps, differentiable, for losses that need them.
        task_loss: images (N,3,H,W) in [0,1] and their labels to the training loss of a task network, differentiable,
            for losses that need it.
        rank: this process of a data-parallel training.

    Raises:
        LossError: an unknown loss or setting, or an input that is absent although a loss needs it.
    """
    from .objective import Objective
    from .term import LossInputs

    if not losses or next(iter(losses.values()))[0] != PIXEL:
        raise LossError(f"objective {' + '.join(losses)!r}: expected a pixel loss first")
    for name, (kind, _) in losses.items():
        loss = get_loss(kind)
        if loss.needs_prior and prior_folder is None:
            raise LossError(f"loss {name!r} needs a diffusion prior: pass prior_folder")
        if loss.needs_labels and task_loss is None:
            raise LossError(f"loss {name!r} needs the training loss of a task network: pass task_loss")
        if loss.needs_task and not loss.needs_labels and task_features is None:
            raise LossError(f"loss {name!r} needs the features of a task network: pass task_features")
    settings = {name: read_settings(name, kind, section) for name, (kind, section) in losses.items()}
    prior = _load_prior(prior_folder) if prior_folder is not None and needs_prior(losses) else None
    inputs = LossInputs(prior, task_features, task_loss, rank=rank)
    pixel_name, *names = losses
    pixel: Any = get_loss(PIXEL)(settings[pixel_name], inputs)
    inputs = replace(inputs, pixel_factor=pixel.symmetric_range_factor)
    terms: dict[str, Any] = {name: get_loss(losses[name][0])(settings[name], inputs) for name in names}
    return Objective(pixel, terms, rank)


def _load_prior(source: "str | Path | DiffusionPrior") -> "DiffusionPrior":
    """The diffusion prior. It is imported by name, so that losses without a prior do not depend on its code."""
    if not isinstance(source, str | Path):
        return source
    prior: DiffusionPrior = import_module("..diffusion.prior", __package__).DiffusionPrior.load(source)
    return prior


def read_settings(name: str, kind: str, section: Mapping[str, Any]) -> Any:
    """The settings of a loss, with defaults for those that are absent.

    Args:
        name: of the loss in the objective, for the message.
        kind: entry of `LOSSES`.
        section: settings by name.

    Raises:
        LossError: an unknown setting, or a value out of its range.
    """
    settings = get_settings(kind)
    try:
        return settings.model_validate(section)
    except ValidationError as error:
        raise LossError(f"loss {name!r}: {first_mistake(error, settings)}") from error


def _entry(kind: str) -> str:
    if kind not in LOSSES:
        raise LossError(f"loss {kind!r} is unknown; there are {', '.join(LOSSES)}")
    return LOSSES[kind]
