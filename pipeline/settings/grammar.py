"""The grammar of the names of objectives, variants and arms. No other module parses these names.

An objective is what a restorer is trained on:
    pixel, diffloss, pixel + task   a sum of losses; the pixel loss is part of each
    longer                          a named loss: a section of params.yaml, `losses.longer: {base: pixel}`
    paper                           a named loss that needs no section, see NAMED_LOSSES
    frozen                          the weights of a checkpoint are used as they are; nothing is trained
    diffloss-on-all                 trained once, on a mixture of degradations: `train_restorer.mixtures.all`; the other
                                    objectives are trained for each degradation

A variant is a row of the tables: clean, degraded, an objective, or an arm.
An arm is a comparison beside the objectives:
    degraded-retrained              the task network is trained and tested on degraded images
    clean-retrained                 the task network is trained further on clean images, and tested on degraded ones:
                                    the control of degraded-retrained
    <objective>-retrained           the task network is trained and tested on restored images
    <objective>-joint               restorer and task network go on training together, and are tested together
    clean-restored-<objective>      the task network is trained on clean images, and tested on clean images that went
                                    through the restorer
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.settings.plugins import plugin_modules

CLEAN = "clean"
DEGRADED = "degraded"
FROZEN = "frozen"  # as an objective
PIXEL = "pixel"  # the loss that is part of every objective
CHECKPOINT = "checkpoint"  # as a restorer: the network that a file holds
BASE = "base"  # in the section of a loss: the name of the loss that it takes its settings from
SUM = "+"
RETRAINED = "-retrained"
JOINT = "-joint"
CLEAN_RESTORED = "clean-restored-"
DEGRADED_RETRAINED = f"{DEGRADED}{RETRAINED}"
CLEAN_RETRAINED = f"{CLEAN}{RETRAINED}"
NAMED_LOSSES: Mapping[str, Mapping[str, Any]] = {  # a section of the same name in params.yaml changes single settings
    "l2": {BASE: PIXEL, "kind": "l2"},
    "paper": {  # DiffLoss as published (Tan et al., ACCV 2024): raw weights, all timesteps, an L2 pixel loss
        BASE: "diffloss",
        PIXEL: "l2",  # the pixel loss of a sum that names none
        "weighting": "raw",
        "timesteps": (0, 1000),
        "view": "own",
    },
}
ON = "-on-"  # before the name of a mixture
LOSS_NAME = re.compile(r"\w[\w.-]*", re.ASCII)


class GrammarError(ValueError):
    """An unknown loss in an objective, or a sum that contradicts itself. The text is one line with the choices."""


def objective_losses(objective: str, losses: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, dict[str, Any]]]:
    """The losses that an objective is a sum of, the pixel loss first; it is added if the objective names none.

    Args:
        objective: names of losses, with "+" between them; a mixture at the end does not change them.
        losses: the section `losses` of params.yaml.

    Returns:
        For each loss: its name -> the name of its plug-in, and its settings. A variant's settings override those of
        its base. Empty for `frozen`.

    Raises:
        GrammarError: an unknown loss, a loss that occurs twice, or two pixel losses.
    """
    if objective == FROZEN:
        return {}
    names = _summands(objective)
    known = plugin_modules("losses")
    for name in names:
        if loss_kind(name, losses) not in known:
            choices = ", ".join(dict.fromkeys([*known, *losses, *NAMED_LOSSES]))
            raise GrammarError(
                f"objective {objective!r}: {name!r} is unknown. Choose one of {choices}, a sum of them, or {FROZEN}."
            )
        if names.count(name) > 1:
            raise GrammarError(f"objective {objective!r}: {name!r} occurs twice. Name it once.")
    pixel = [name for name in names if is_pixel_objective(name, losses)]
    if len(pixel) > 1:
        raise GrammarError(f"objective {objective!r}: {' and '.join(pixel)} are both pixel losses. Choose one of them.")
    implied = next((str(NAMED_LOSSES[name][PIXEL]) for name in names if PIXEL in NAMED_LOSSES.get(name, {})), PIXEL)
    ordered = [*(pixel or [implied]), *(name for name in names if name not in pixel)]
    return {name: (loss_kind(name, losses), loss_settings(name, losses)) for name in ordered}


def loss_kind(name: str, losses: Mapping[str, Mapping[str, Any]]) -> str:
    """The plug-in behind the name of a loss: for a named loss its base, otherwise the loss itself."""
    return str(_section(name, losses).get(BASE, name))


def loss_settings(name: str, losses: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The settings of a loss, those of a named loss's base included."""
    section = _section(name, losses)
    merged = {**losses.get(section.get(BASE, ""), {}), **section}
    return {key: value for key, value in merged.items() if key not in (BASE, PIXEL)}


def _section(name: str, losses: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    section = losses.get(name, {})
    return {**NAMED_LOSSES.get(name, {}), **(section if isinstance(section, Mapping) else {})}


def is_loss_name(name: str) -> bool:
    """Whether a name may be given to a named loss: it must have no other meaning."""
    taken = {*plugin_modules("losses"), CLEAN, DEGRADED, FROZEN}
    return name not in taken and parse_arm(name) is None and ON not in name and LOSS_NAME.fullmatch(name) is not None


def is_pixel_objective(objective: str, losses: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether an objective is the pixel loss alone, also under another name; False on a mixture."""
    return loss_kind(objective.strip(), losses) == PIXEL


def same_losses(objective: str) -> frozenset[str]:
    """A key that is equal for all spellings of one sum. The pixel loss counts only if it stands alone."""
    names, mixture = frozenset(_summands(objective)), mixture_name(objective)
    return (names - {PIXEL} or names) | ({f"{ON}{mixture}"} if mixture else set())


def mixture_name(objective: str) -> str | None:
    """The mixture of degradations that an objective's restorer is trained on; None: each degradation by itself."""
    return objective.rpartition(ON)[2].strip() if ON in objective else None


def is_mixture_name(name: str) -> bool:
    """Whether a mixture may have a name: an objective on it must have no other meaning."""
    return ON not in f"{name}-" and parse_arm(f"{PIXEL}{ON}{name}") is None


def specialist(objective: str) -> str:
    """The objective with the same losses that is trained for each degradation."""
    return objective.rpartition(ON)[0] if ON in objective else objective


def _summands(objective: str) -> list[str]:
    return [part.strip() for part in specialist(objective).split(SUM)]


@dataclass(frozen=True)
class Arm:
    """A comparison beside the objectives.

    Attributes:
        name: as in params.yaml.
        source: the objective of the restorer; without one "degraded" or "clean", the images that are learned from.
        retrained: whether the task network is trained on the arm's images.
        joint: whether the restorer is trained with it.
    """

    name: str
    source: str
    retrained: bool
    joint: bool = False

    @property
    def images_by_training(self) -> bool:
        """Whether each training of a retrained network has images of its own, by another training of the restorer."""
        return self.retrained and not self.joint and self.source not in (CLEAN, DEGRADED, FROZEN)


def parse_arm(name: str) -> Arm | None:
    """The arm of a name, or None for any other name."""
    if name.endswith(RETRAINED) and len(name) > len(RETRAINED):
        return Arm(name, name.removesuffix(RETRAINED), True)
    if name.endswith(JOINT) and len(name) > len(JOINT):
        return Arm(name, name.removesuffix(JOINT), True, True)
    if name.startswith(CLEAN_RESTORED) and len(name) > len(CLEAN_RESTORED):
        return Arm(name, name.removeprefix(CLEAN_RESTORED), False)
    return None


def arm_error(name: str, objectives: Collection[str]) -> str | None:
    """What is wrong with the name of an arm, as the text of an error; None if nothing is."""
    arm = parse_arm(name)
    if arm is None:
        without = f"{DEGRADED_RETRAINED}, {CLEAN_RETRAINED}"
        choices = f"{without}, <objective>{RETRAINED}, <objective>{JOINT} or {CLEAN_RESTORED}<objective>"
        return f"{name!r} is no arm. Choose {choices}."
    known = {*objectives, DEGRADED, CLEAN} if arm.retrained and not arm.joint else {*objectives}
    if arm.joint and arm.source == FROZEN:
        return f"{name!r}: {FROZEN!r} has no losses to train with. Choose another objective."
    if arm.source not in known:
        return f"{name!r}: {arm.source!r} is not among the objectives. Choose one of {', '.join(objectives)}."
    return None


def is_retrained(variant: str) -> bool:
    """Whether a variant is scored by a task network that was trained on the variant's images."""
    arm = parse_arm(variant)
    return arm is not None and arm.retrained


def is_joint(variant: str) -> bool:
    """Whether the restorer of a variant was trained together with the task network."""
    arm = parse_arm(variant)
    return arm is not None and arm.joint


def is_clean_restored(variant: str) -> bool:
    """Whether a variant shows what a restorer does to clean images."""
    arm = parse_arm(variant)
    return arm is not None and not arm.retrained


def objective_of(variant: str, objectives: Collection[str]) -> str | None:
    """The objective of the restorer that a variant's images went through; None if there was no restorer."""
    arm = parse_arm(variant)
    source = arm.source if arm else variant
    return source if source in objectives else None


def variant_kind(variant: str, objectives: Collection[str]) -> str:
    """The kind of a row: clean, degraded, restored, retrained, joint or clean-restored."""
    if variant in objectives:
        return "restored"
    if is_joint(variant):
        return JOINT.removeprefix("-")
    if is_retrained(variant):
        return RETRAINED.removeprefix("-")
    return CLEAN_RESTORED.removesuffix("-") if is_clean_restored(variant) else variant
