"""Names of objectives, variants and arms."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.settings.grammar import (
    FROZEN,
    Arm,
    GrammarError,
    arm_error,
    is_clean_restored,
    is_loss_name,
    is_pixel_objective,
    is_retrained,
    objective_losses,
    objective_of,
    parse_arm,
    same_losses,
    variant_kind,
)
from pipeline.settings.params import Params, load_params

PARAMS = load_params(Path(__file__).parents[1] / "params.tiny.yaml")
OBJECTIVES = ["pixel", "pixel + diffloss"]
LOSSES: dict[str, dict[str, Any]] = {
    "pixel": {"kind": "l1"},
    "diffloss": {"strength": 2.0, "timesteps": [5, 300]},
    "square": {"base": "pixel", "kind": "l2"},
    "late": {"base": "diffloss", "timesteps": [400, 900]},
    "heavy": {"base": "pixel"},
}


@pytest.mark.parametrize(
    ("objective", "names"),
    [
        ("pixel", ["pixel"]),
        ("diffloss", ["pixel", "diffloss"]),
        ("diffloss + pixel", ["pixel", "diffloss"]),
        ("task+lpips", ["pixel", "task", "lpips"]),
        ("natural + square", ["square", "natural"]),
        ("late", ["pixel", "late"]),
        ("paper", ["l2", "paper"]),
        ("pixel + paper", ["pixel", "paper"]),
        (FROZEN, []),
    ],
)
def test_the_pixel_loss_comes_first_named_or_not(objective: str, names: list[str]) -> None:
    assert list(objective_losses(objective, LOSSES)) == names


def test_each_loss_has_its_kind_and_all_its_settings() -> None:
    assert objective_losses("late + square", LOSSES) == {
        "square": ("pixel", {"kind": "l2"}),
        "late": ("diffloss", {"strength": 2.0, "timesteps": [400, 900]}),
    }
    assert objective_losses("heavy + lpips", LOSSES) == {"heavy": ("pixel", {"kind": "l1"}), "lpips": ("lpips", {})}
    published = {"weighting": "raw", "timesteps": (0, 1000), "view": "own"}
    assert objective_losses("paper", LOSSES) == {
        "l2": ("pixel", {"kind": "l2"}),
        "paper": ("diffloss", {"strength": 2.0, **published}),
    }
    longer = objective_losses("paper", {"paper": {"timesteps": [0, 500]}})
    assert longer["paper"] == ("diffloss", {**published, "timesteps": [0, 500]})
    assert LOSSES["late"] == {"base": "diffloss", "timesteps": [400, 900]}


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("pixel + perceptual", "objective 'pixel . perceptual': 'perceptual' is unknown. Choose one of pixel, natural"),
        ("", "objective '': '' is unknown. Choose one of pixel, .*, square, .*, a sum of them, or frozen"),
        ("natural + natural", "'natural' occurs twice"),
        ("square + pixel", "square and pixel are both pixel losses. Choose one"),
        ("frozen + lpips", "'frozen' is unknown"),
    ],
)
def test_a_mistake_in_an_objective_is_one_line(objective: str, message: str) -> None:
    with pytest.raises(GrammarError, match=message) as caught:
        objective_losses(objective, LOSSES)
    assert "\n" not in str(caught.value)


def test_the_pixel_loss_alone() -> None:
    assert [name for name in [*LOSSES, "pixel + late"] if is_pixel_objective(name, LOSSES)] == [
        *("pixel", "square", "heavy")
    ]


def test_a_sum_is_the_same_in_any_spelling() -> None:
    assert same_losses("task+ diffloss") == same_losses("pixel + diffloss+task") != same_losses("task")
    assert same_losses("pixel") == {"pixel"}


@pytest.mark.parametrize(("name", "allowed"), [("late2", True), ("a-b.c_d", True), ("lpips", False), ("a/b", False)])
def test_names_of_variants_of_losses(name: str, allowed: bool) -> None:
    assert is_loss_name(name) == allowed
    assert not any(map(is_loss_name, ("clean", "degraded", "frozen", "x-retrained", "clean-restored-x", "a + b")))


@pytest.mark.parametrize(
    ("name", "arm"),
    [
        ("degraded-retrained", Arm("degraded-retrained", "degraded", True)),
        ("pixel + diffloss-retrained", Arm("pixel + diffloss-retrained", "pixel + diffloss", True)),
        ("clean-restored-pixel", Arm("clean-restored-pixel", "pixel", False)),
        ("retrained", None),
        ("-retrained", None),
        ("pixel", None),
    ],
)
def test_arms(name: str, arm: Arm | None) -> None:
    assert parse_arm(name) == arm
    assert is_retrained(name) == (arm is not None and arm.retrained)
    assert is_clean_restored(name) == (arm is not None and not arm.retrained)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "pixel-trained",
            "is no arm. Choose degraded-retrained, clean-retrained, <objective>-retrained, <objective>-joint or",
        ),
        ("lpips-retrained", "'lpips' is not among the objectives. Choose one of pixel, diffloss"),
        ("clean-restored-degraded", "'degraded' is not among the objectives"),
    ],
)
def test_a_mistake_in_an_arm_is_one_line(name: str, words: str) -> None:
    assert words in str(arm_error(name, ["pixel", "diffloss"]))
    with pytest.raises(ValueError, match="arms: "):
        Params.model_validate({**PARAMS.model_dump(), "arms": [name]})


@pytest.mark.parametrize(
    ("variant", "objective", "kind"),
    [
        ("clean", None, "clean"),
        ("degraded", None, "degraded"),
        ("pixel + diffloss", "pixel + diffloss", "restored"),
        ("degraded-retrained", None, "retrained"),
        ("pixel-retrained", "pixel", "retrained"),
        ("clean-restored-pixel", "pixel", "clean-restored"),
    ],
)
def test_variants(variant: str, objective: str | None, kind: str) -> None:
    assert objective_of(variant, OBJECTIVES) == objective and variant_kind(variant, OBJECTIVES) == kind
