"""The rivals of a restorer, by name: what a task network is trained or tested on. Not a stage.

degraded-retrained         trained on degraded images, tested on degraded ones
<objective>-retrained      trained on restored images, tested on restored ones
clean-restored-<objective> the network trained on clean images, tested on clean images that went through the restorer
"""

from dataclasses import dataclass

CLEAN = "clean"
DEGRADED = "degraded"
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
