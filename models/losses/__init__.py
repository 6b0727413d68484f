"""Training losses. `LOSSES` is the table of names that an objective may hold; objectives are sums of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .term import DiffusionSettings, LossError, LpipsSettings, PixelSettings, TaskSettings

if TYPE_CHECKING:
    from ..data_parallel import BatchShare
    from ..diffusion.prior import DiffusionPrior
    from .objective import Objective


@dataclass(frozen=True)
class LossSpec:
    """Where a loss lives and what it needs.

    `module` has a function build(name, settings, frozen, pixel_kind) -> Term (the pixel loss is built in).
    """

    module: str
    settings: type[Any]
    needs_prior: bool = False
    needs_task: bool = False


LOSSES: dict[str, LossSpec] = {
    "pixel": LossSpec(".pixel", PixelSettings),
    "natural": LossSpec(".diffusion_terms", DiffusionSettings, needs_prior=True),
    "semantic": LossSpec(".diffusion_terms", DiffusionSettings, needs_prior=True),
    "diffloss": LossSpec(".diffusion_terms", DiffusionSettings, needs_prior=True),
    "lpips": LossSpec(".lpips", LpipsSettings),
    "task": LossSpec(".task", TaskSettings, needs_task=True),
}


def get_loss(kind: str) -> LossSpec:
    """What a loss needs: `needs_prior`, `needs_task`."""
    return LOSSES[kind]


BASE = "base"  # in the settings of a variant: which loss it is one of
FROZEN = "frozen"  # as an objective, alone: the restorer of a checkpoint is used as it is, nothing is trained


def kind_of(name: str, settings: Mapping[str, Any] = MappingProxyType({})) -> str:
    """The entry of `LOSSES` behind a name: itself, or for a variant what its settings say under `base`."""
    given = settings.get(name)
    return str(given.get(BASE, name)) if isinstance(given, Mapping) else name


def loss_names(objective: str, settings: Mapping[str, Any] = MappingProxyType({})) -> tuple[str, ...]:
    """The losses in an objective such as "pixel + diffloss"; the pixel loss comes first, named or not.

    There are none in `frozen`. A loss may be a variant: `settings` has a section of its name whose `base` is a name
    of the table. A variant of the pixel loss stands in its place.

    Raises:
        LossError: a name that is not in the table, one that occurs twice, or two pixel losses.
    """
    if objective == FROZEN:
        return ()
    names = [part.strip() for part in objective.split("+")]
    for name in names:
        if kind_of(name, settings) not in LOSSES:
            known = dict.fromkeys([*LOSSES, *settings])
            raise LossError(
                f"objective {objective!r}: {name!r} is unknown; there are {', '.join(known)}, and sums; or {FROZEN}"
            )
        if names.count(name) > 1:
            raise LossError(f"objective {objective!r}: {name!r} occurs twice")
    pixel = [name for name in names if kind_of(name, settings) == "pixel"]
    if len(pixel) > 1:
        raise LossError(f"objective {objective!r}: {' and '.join(pixel)} are both pixel losses; choose one")
    return (*(pixel or ["pixel"]), *(name for name in names if name not in pixel))


def needs_prior(
    objective: str | Mapping[str, tuple[str, Any]], settings: Mapping[str, Any] = MappingProxyType({})
) -> bool:
    """Whether an objective, or losses as `objective_losses` returns them, need a diffusion prior."""
    if isinstance(objective, Mapping):
        return any(LOSSES[kind].needs_prior for kind, _ in objective.values())
    return any(LOSSES[kind].needs_prior for kind in _kinds(objective, settings))


def needs_task(objective: str, settings: Mapping[str, Any] = MappingProxyType({})) -> bool:
    """Whether an objective needs the features of a task network."""
    return any(LOSSES[kind].needs_task for kind in _kinds(objective, settings))


def _kinds(objective: str, settings: Mapping[str, Any]) -> list[str]:
    return [kind_of(name, settings) for name in loss_names(objective, settings)]


def build_objective(
    objective: str,
    settings: Mapping[str, Any],
    *,
    prior: "DiffusionPrior | None" = None,
    task_features: Callable[..., Any] | None = None,
    bank_folder: Path | None = None,
    share: "BatchShare | None" = None,
) -> "Objective":
    """Build an objective from its name and the settings of its losses.

    Args:
        objective: a name of the table or a sum of names; the pixel loss is always part of it.
        settings: by loss name, a mapping of settings (or the settings object itself); defaults where absent. A
            mapping with the key `base` makes a variant of that loss; it has all its settings itself.
        prior: the diffusion prior, for losses that need one.
        task_features: images (N,3,H,W) in [0,1] to a list of feature tensors, differentiable, for `task`.
        bank_folder: where cached features of `bank: disk` lie.
        share: which part of each batch it is given, where processes share a training; the whole by default.

    Raises:
        LossError: an unknown loss or setting, or something missing that a loss needs.
    """
    from ..data_parallel import WHOLE
    from .objective import Objective
    from .term import Frozen

    share = share or WHOLE
    names = loss_names(objective, settings)
    frozen = Frozen(prior, task_features, bank_folder, share)
    kinds = {name: kind_of(name, settings) for name in names}
    read = {name: settings_of(kinds[name], settings.get(name, {})) for name in names}
    pixel = read.pop(names[0])
    terms = {
        name: import_module(LOSSES[kinds[name]].module, __package__).build(kinds[name], own, frozen, pixel.kind)
        for name, own in read.items()
    }
    return Objective(pixel, terms, share)


def settings_of(name: str, given: Any) -> Any:
    """The settings of a loss from a mapping, or as they are.

    Raises:
        LossError: a setting that the loss does not have.
    """
    kind = LOSSES[name].settings
    if isinstance(given, kind):
        return given
    known = [field.name for field in fields(kind)]
    given = {key: value for key, value in given.items() if key != BASE}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise LossError(f"loss {name!r}: unknown setting {unknown[0]!r}; there are {', '.join(known)}")
    return kind(**given)
