"""Stage plan: check every name in params.yaml before any work, and say what the chosen objectives need.

All other stages follow it. What it writes changes only when a need changes, so that nothing is trained in
vain, nor again because an objective was added that needs the same.
"""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import ValidationError, create_model

from data.degradations import DegradationError, require_still_pixels
from models.diffusion.network import NetworkError, check_sizes
from models.losses import LOSSES, LossError, loss_names, needs_prior
from models.tasks import TASKS
from pipeline import runtime
from pipeline.params import PARAMS_FILE, Params, ParamsError, load_params, one_line
from pipeline.section import Section


def check_names(params: Params) -> None:
    """Check degradations, objectives, tasks and the settings of losses against what exists.

    Raises:
        ParamsError: one line that names the key and the choices.
    """
    for task in params.tasks:
        _check_name("tasks", task, TASKS)
    for objective in params.objectives:
        _check("objectives", loss_names, objective)
    for degradation in params.degradations:
        _check("degradations", require_still_pixels, degradation)
    for name, section in params.losses.items():
        _check_name("losses", name, LOSSES)
        _check_loss(name, section)


def check_numbers(params: Params) -> None:
    """Check numbers that must fit each other, so that no stage finds out after hours.

    Raises:
        ParamsError: one line that names the key.
    """
    network, steps = params.train_prior.network, params.train_prior.schedule.steps
    _check("train_prior.network", check_sizes, network.model_dump())
    for name, section in params.losses.items():
        window = section.get("timesteps", (0, 1))
        if not 0 <= window[0] < window[1] <= steps and params.train_prior.pretrained is None:
            raise ParamsError(
                f"{PARAMS_FILE}: losses.{name}.timesteps: expected 0 <= low < high <= {steps} "
                f"(train_prior.schedule.steps), got {list(window)}"
            )


def needs(params: Params) -> dict[str, bool]:
    """What the objectives need to be trained before any restorer."""
    return {"prior": any(needs_prior(objective) for objective in params.objectives)}


def _check(key: str, check: Any, value: Any) -> None:
    try:
        check(value)
    except (DegradationError, LossError, NetworkError) as error:
        raise ParamsError(f"{PARAMS_FILE}: {key}: {error}") from error


def _check_name(key: str, name: str, table: Iterable[str]) -> None:
    if name not in table:
        raise ParamsError(f"{PARAMS_FILE}: {key}: {name!r} is unknown; there are: {', '.join(table)}")


def _check_loss(name: str, section: Any) -> None:
    """Check a section of losses against the settings that the loss declares."""
    kind = LOSSES[name].settings
    types = get_type_hints(kind)
    fields: dict[str, Any] = {field.name: (types[field.name], field.default) for field in dataclasses.fields(kind)}
    model = create_model(kind.__name__, __base__=Section, **fields)
    try:
        model.model_validate(section)
    except ValidationError as error:
        raise ParamsError(f"{PARAMS_FILE}: losses.{name}.{one_line(error, model)}") from error


def main() -> None:
    """Command line."""
    options = runtime.arguments("needs", "checked")
    params = load_params()
    check_names(params)
    check_numbers(params)
    for path, content in ((options.needs, needs(params)), (options.checked, {"names": "checked"})):
        with runtime.replacing(Path(path)) as scratch:
            scratch.write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    runtime.run_stage(main)
