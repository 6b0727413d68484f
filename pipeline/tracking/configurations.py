"""Digests of the parameters that a run depends on. The tag `configuration` of an MLflow run holds its digest."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pipeline.settings.grammar import objective_of, parse_arm
from pipeline.settings.params import ELSEWHERE, Params

# Sections that no row depends on.
LISTS = {"degradations", "objectives", "tasks", "arms", "quality", "report", *ELSEWHERE}


def row_configuration(params: Params, degradation: str | None, variant: str, needs_prior: bool = False) -> str:
    """A digest of the parameters behind one row: a degradation and a variant (`clean`, `degraded`, an objective, ...).

    It leaves out what the row does not depend on, so that a change there makes no second run of the same row.
    """
    unused = LISTS | {"losses", "degrade"}
    objective = objective_of(variant, params.objectives)
    if objective is None:
        unused |= {"train_restorer", "restore"}
    if not needs_prior:
        unused |= {"train_prior"}
    if parse_arm(variant) is None:
        unused |= {"retraining"}
    rest = params.model_dump(mode="json", exclude=unused)
    if "train_restorer" in rest:
        rest["train_restorer"] = params.train_restorer.of(str(objective)).used
    return _digest(
        [rest, params.degrade.only(degradation), params.losses_of(objective or variant), degradation, variant]
    )


def training_configuration(params: Params, stage: str, name: str, settings: Mapping[str, Any]) -> str:
    """A digest of the parameters behind the training of a prior, a task network or a mixture's restorer.

    Args:
        params: for the seed.
        stage: `train_prior`, `train_task` or `train_mixture`.
        name: of the run: `prior`, the task's name or the objective's.
        settings: the section of params.yaml that the training depends on.
    """
    return _digest([stage, name, params.seed, settings])


def mixture_settings(params: Params, description: Mapping[str, Any]) -> dict[str, Any]:
    """The settings behind a restorer on a mixture, for `training_configuration`.

    Args:
        params: the settings of restorers.
        description: what the stage `objective` wrote.
    """
    return {**params.train_restorer.of(description["objective"]).used, "description": description}


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
