"""Stage plan: check every name in params.yaml before any work, and say what the chosen objectives need.

All other stages follow it. What it writes changes only when a need changes, so that nothing is trained in
vain, nor again because an objective was added that needs the same. Of each task and of the restorer it writes down
what DVC cannot list by itself: the digests of their own code and of the files from elsewhere that they are made of.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import BaseModel, ValidationError, create_model

from data.degradations import require_still_pixels
from data.degradations.effects import DegradationError
from data.degradations.recipes import RECIPES
from models.diffusion.unet import NetworkError, check_sizes
from models.losses import BASE, FROZEN, LOSSES, loss_names, needs_prior, settings_of
from models.losses.term import LossError
from models.restorers import CHECKPOINT, RESTORERS, load_restorer
from models.restorers.contract import RestorerError
from models.tasks import TASKS, TaskError, get_task
from pipeline.datasets.degrading import recipe_of
from pipeline.running.atomic_outputs import replacing, replacing_folder
from pipeline.running.digests import closure, digest_files
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.settings.degrade import Paired, Unpaired
from pipeline.settings.grammar import DEGRADED, RETRAINED, parse_arm
from pipeline.settings.params import PARAMS_FILE, Params, ParamsError, load_params, one_line, read_yaml
from pipeline.settings.sections import Section
from pipeline.settings.training import TrainRestorer

VARIANT_NAME = re.compile(r"\w[\w.-]*", re.ASCII)
NOT_AN_OBJECTIVE = ("clean", DEGRADED, FROZEN)


def check_names(params: Params) -> None:
    """Check degradations, objectives, tasks and the settings of losses against what exists.

    Raises:
        ParamsError: one line that names the key and the choices.
    """
    trained = params.train_restorer
    for task in params.tasks:
        _check_name("tasks", task, TASKS)
        params.task_settings(task)
    for task, section in params.train_task.items():
        _check_name("train_task", task, TASKS)
        _check_section(f"train_task.{task}", get_task(task).settings_type, section)
    for arm in params.arms:
        _check_arm(params, arm)
    for degradation in params.degradations:
        _check_degradation(params, degradation)
    for name in params.degrade.severity_of:
        _check_name("degrade.severity_of", name, {**RECIPES, **params.degrade.recipes, **params.degrade.real})
    for name, section in params.losses.items():
        _check_loss(name, section)
    for key, objectives in (("objectives", params.objectives), ("train_restorer.steps_of", trained.steps_of)):
        for objective in objectives:
            _check(key, lambda chosen: loss_names(chosen, params.losses), objective)
    if FROZEN in trained.steps_of:
        raise ParamsError(f"{PARAMS_FILE}: train_restorer.steps_of.{FROZEN}: {FROZEN!r} is not trained; take it out")


def _check_loss(name: str, section: dict[str, Any]) -> None:
    """A section is that of a loss, or of a variant of one under a name of its own."""
    own = dict(section)
    base = own.pop(BASE, name)
    if base is not name:
        _check_name(f"losses.{name}.{BASE}", base, LOSSES)
        if name in {*LOSSES, *NOT_AN_OBJECTIVE} or parse_arm(name) or not VARIANT_NAME.fullmatch(name):
            raise ParamsError(
                f"{PARAMS_FILE}: losses.{name}: no name for a variant; choose one of letters, digits, '.', '_' and '-' "
                "that means nothing else"
            )
    elif name not in LOSSES:
        raise ParamsError(
            f"{PARAMS_FILE}: losses: {name!r} is unknown; there are: {', '.join(LOSSES)}; "
            f"a variant of one of them needs its name as {BASE}"
        )
    _check_section(f"losses.{name}", LOSSES[base].settings, own)
    _check(f"losses.{name}", partial(settings_of, base), own)


def _check_arm(params: Params, arm: str) -> None:
    """A task network from elsewhere that is used as it is cannot be trained on other images."""
    fixed = [task for task in params.tasks if params.task_settings(task).get("frozen")]
    if arm.endswith(RETRAINED) and fixed:
        raise ParamsError(
            f"{PARAMS_FILE}: arms has {arm!r}, but train_task.{fixed[0]}.frozen is true: nothing there is trained"
        )


def _check_degradation(params: Params, name: str) -> None:
    own, photos = params.degrade.recipes, params.degrade.real
    for key, section in (("recipes", own), ("real", photos)):
        if name in section and name in RECIPES:
            raise ParamsError(f"{PARAMS_FILE}: degrade.{key}.{name}: there is a recipe of this name; choose another")
    if name in photos:
        _check_photos(params, name)
    else:
        key = f"degrade.recipes.{name}" if name in own else "degradations"
        _check(key, lambda known: require_still_pixels(recipe_of(params.degrade, known)), name)


def _check_photos(params: Params, name: str) -> None:
    """Real photos: their folder must be there, and the recipe that stands in for them in training must exist."""
    photos = params.degrade.real[name]
    folder = Path(params.data.root) / photos.folder if isinstance(photos, Paired) else Path(photos.data.root)
    if not folder.is_dir():
        raise ParamsError(f"{PARAMS_FILE}: degrade.real.{name}: there is no folder {folder}")
    if isinstance(photos, Unpaired):
        key = f"degrade.real.{name}.recipe"
        _check(key, lambda known: require_still_pixels(recipe_of(params.degrade, known)), photos.recipe)


def check_numbers(params: Params) -> None:
    """Check numbers that must fit each other, so that no stage finds out after hours.

    Raises:
        ParamsError: one line that names the key.
    """
    network, steps = params.train_prior.network, params.train_prior.schedule.steps
    _check("train_prior.network", check_sizes, network.model_dump())
    for name, section in params.loss_settings.items():
        _check_from_step(params, name, section.get("from_step", 0))
        window = section.get("timesteps", (0, 1))
        if not 0 <= window[0] < window[1] <= steps and params.train_prior.pretrained is None:
            raise ParamsError(
                f"{PARAMS_FILE}: losses.{name}.timesteps: expected 0 <= low < high <= {steps} "
                f"(train_prior.schedule.steps), got {list(window)}"
            )


def _check_from_step(params: Params, loss: str, first: int) -> None:
    for objective in params.objectives:
        steps = params.train_restorer.of(objective).steps
        if loss in loss_names(objective, params.losses) and first >= steps:
            raise ParamsError(
                f"{PARAMS_FILE}: losses.{loss}.from_step: expected less than {steps} (the steps of {objective!r}), got "
                f"{first}; the loss would never be used"
            )


def needs(params: Params) -> dict[str, bool]:
    """What the objectives need to be trained before any restorer."""
    return {"prior": any(needs_prior(objective, params.losses) for objective in params.objectives)}


def describe_task(task: str, settings: dict[str, Any], watched: Path) -> dict[str, Any]:
    """Everything that a task is made of beside its settings and the data: it is trained anew when this changes.

    Args:
        task: a name in TASKS.
        settings: its section of params.yaml, whose names and files are checked.
        watched: the folder for files from elsewhere whose content DVC watches; it is said where one lies outside.

    Raises:
        ParamsError: a model or file that does not exist, or cannot be used; one line that names the key.
    """
    try:
        files = get_task(task).check(settings)
    except TaskError as error:
        raise ParamsError(f"{PARAMS_FILE}: {error}") from error
    for path in files:
        _say_if_unwatched(f"train_task.{task}", path, watched)
    return {
        "task": task,
        "code": digest_files(*closure(TASKS[task].split(":")[0], Path())),
        "files": {str(path): digest_files(path) for path in files},
    }


def describe_restorer(settings: TrainRestorer, watched: Path) -> dict[str, Any]:
    """Everything that the restorer is made of beside its settings and the data; as `describe_task`.

    Raises:
        ParamsError: its checkpoint is not there or cannot be used; one line that names the key.
    """
    name, files = settings.restorer, []
    modules = ["models.restorers.contract"]
    if name == CHECKPOINT:
        key, path = "train_restorer.checkpoint.weights", Path(settings.network["weights"])
        name = _check(key, load_restorer, path).name
        _say_if_unwatched(key, path, watched)
        files.append(path)
    if name in RESTORERS:
        modules.append(RESTORERS[name].split(":")[0])
    code = set().union(*(closure(module, Path()) for module in modules))
    return {
        "restorer": name,
        "code": digest_files(*code),
        "files": {str(path): digest_files(path) for path in files},
    }


def _say_if_unwatched(key: str, path: Path, watched: Path) -> None:
    if not path.resolve().is_relative_to(watched.resolve()):
        print(
            f"note: {key}: {path} lies outside {watched}/: after a change of its content alone, "
            "run `dvc repro -f plan` first"
        )


def _check(key: str, check: Any, value: Any) -> Any:
    try:
        return check(value)
    except (DegradationError, LossError, NetworkError, RestorerError) as error:
        raise ParamsError(f"{PARAMS_FILE}: {key}: {error}") from error


def _check_name(key: str, name: str, table: Iterable[str]) -> None:
    if name not in table:
        raise ParamsError(f"{PARAMS_FILE}: {key}: {name!r} is unknown; there are: {', '.join(table)}")


def _check_section(key: str, kind: type[Any], section: Any) -> None:
    """Check a section against the settings of a loss or a task."""
    if issubclass(kind, BaseModel):
        model: Any = kind
    else:
        types = get_type_hints(kind, include_extras=True)
        fields: dict[str, Any] = {field.name: (types[field.name], field.default) for field in dataclasses.fields(kind)}
        model = create_model(kind.__name__, __base__=Section, **fields)
    try:
        read = model.model_validate(section).model_dump(mode="json")
    except ValidationError as error:
        raise ParamsError(f"{PARAMS_FILE}: {key}.{one_line(error, model)}") from error
    for name, value in section.items():
        if read[name] != value:  # such as "5": those who use it do not turn it into a number
            raise ParamsError(f"{PARAMS_FILE}: {key}.{name}: expected {read[name]!r}, got {value!r}")


def check_complete(stages: Mapping[str, Any]) -> None:
    """Check that params.yaml has every key that a stage depends on: DVC would find out when it comes to that stage.

    Args:
        stages: those of dvc.yaml.

    Raises:
        ParamsError: the first key that is missing.
    """
    content = read_yaml(PARAMS_FILE, hint="run in the project's root")
    for key in dict.fromkeys(key for stage in stages.values() for key in stage.get("params", []) if "$" not in key):
        node = content
        for part in key.split("."):
            if not isinstance(node, dict) or part not in node:
                raise ParamsError(f"{PARAMS_FILE}: {key} is missing; take it over from the project's own {PARAMS_FILE}")
            node = node[part]


def main() -> None:
    """Command line."""
    options = parse_arguments("needs", "checked", "tasks", "restorer", "weights", "dag")
    params = load_params()
    check_complete(read_yaml(Path(options.dag), hint="run in the project's root")["stages"])
    check_names(params)
    check_numbers(params)
    watched = Path(options.weights)
    tasks = {task: describe_task(task, params.task_settings(task), watched) for task in params.tasks}
    restorer = describe_restorer(params.train_restorer, watched)
    for path, content in (
        (options.needs, needs(params)),
        (options.checked, {"names": "checked"}),
        (options.restorer, restorer),
    ):
        with replacing(Path(path)) as scratch:
            scratch.write_text(json.dumps(content) + "\n")
    with replacing_folder(Path(options.tasks)) as folder:
        for task, content in tasks.items():
            (folder / f"{task}.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    run_stage(main)
