"""The rivals of a restorer, by name: what a task network is trained or tested on. Not a stage.

degraded-retrained         trained on degraded images, tested on degraded ones
<objective>-retrained      trained on restored images, tested on restored ones
clean-restored-<objective> the network trained on clean images, tested on clean images that went through the restorer
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

CLEAN = "clean"
DEGRADED = "degraded"
FROZEN = "frozen"  # as an objective
PIXEL = "pixel"
BASE = "base"  # in the section of a loss: the name of the loss that it is a variant of
RETRAINED = "-retrained"
CLEAN_RESTORED = "clean-restored-"


@dataclass(frozen=True)
class Arm:
    """One rival: `source` is the objective of the restorer, or "degraded" for none."""

    name: str
    source: str
    retrained: bool


def parse_arm(name: str) -> Arm | None:
    """The arm of that name, or None where the name has neither form."""
    if name.endswith(RETRAINED) and len(name) > len(RETRAINED):
        return Arm(name, name.removesuffix(RETRAINED), True)
    if name.startswith(CLEAN_RESTORED) and len(name) > len(CLEAN_RESTORED):
        return Arm(name, name.removeprefix(CLEAN_RESTORED), False)
    return None


def arm_fault(name: str, objectives: list[str]) -> str | None:
    """What is wrong with an arm's name, in words; None if nothing."""
    arm = parse_arm(name)
    if arm is None:
        return f"{name!r}: expected {DEGRADED}{RETRAINED}, <objective>{RETRAINED} or {CLEAN_RESTORED}<objective>"
    known = [*objectives, DEGRADED] if arm.retrained else objectives
    if arm.source not in known:
        return f"{name!r}: {arm.source!r} is not among objectives: {', '.join(objectives)}"
    return None


class GrammarError(ValueError):
    """A name that means nothing; the text is one line with the choices."""


def objective_losses(objective: str, losses: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, dict[str, Any]]]:
    """The losses that an objective is a sum of, the pixel loss first; it is added if the objective names none.

    Returns:
        For each loss: its name -> the name of its plug-in, and its settings. A variant has the settings of its base
        where it has none itself. Empty for `frozen`.

    Raises:
        GrammarError: an unknown loss, a loss that occurs twice, or two pixel losses.
    """
    if objective == FROZEN:
        return {}
    names = [part.strip() for part in objective.split("+")]
    kinds = {name: _kind(name, losses) for name in names}
    table = import_module("models.losses").LOSSES
    for name, kind in kinds.items():
        if kind not in table:
            choices = ", ".join(dict.fromkeys([*table, *losses]))
            raise GrammarError(
                f"objective {objective!r}: {name!r} is unknown; there are {choices}, and sums; or {FROZEN}"
            )
        if names.count(name) > 1:
            raise GrammarError(f"objective {objective!r}: {name!r} occurs twice")
    pixel = [name for name in names if kinds[name] == PIXEL]
    if len(pixel) > 1:
        raise GrammarError(f"objective {objective!r}: {' and '.join(pixel)} are both pixel losses; choose one")
    ordered = [*(pixel or [PIXEL]), *(name for name in names if name not in pixel)]
    return {name: (kinds.get(name, PIXEL), _settings(name, losses)) for name in ordered}


def _kind(name: str, losses: Mapping[str, Mapping[str, Any]]) -> str:
    section = losses.get(name)
    return str(section.get(BASE, name)) if isinstance(section, Mapping) else name


def _settings(name: str, losses: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    section = losses.get(name, {})
    merged = {**losses.get(section.get(BASE, ""), {}), **section}
    return {key: value for key, value in merged.items() if key != BASE}
