"""Stage plan: check all names and settings in params.yaml before any work.

All other stages follow it. It tries all networks from elsewhere, and writes which networks the objectives need and the
digests of the files that tasks, restorer and losses read. DVC cannot know these files, because params.yaml names them.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from data.degradations import RECIPES, DegradationError
from data.degradations.recipes import require_still_pixels
from models.diffusion.unet import NetworkError, check_sizes
from models.losses import TRAINED, UNTRAINED, needs_prior
from models.tasks import get_task
from pipeline.datasets.recipes import recipe_of
from pipeline.running.atomic_outputs import replacing, replacing_folder
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.settings.data import Paired, Unpaired
from pipeline.settings.dvc_view import check_complete, check_root
from pipeline.settings.grammar import (
    BASE,
    CHECKPOINT,
    CLEAN_RETRAINED,
    FROZEN,
    GrammarError,
    is_joint,
    is_loss_name,
    loss_kind,
    loss_settings,
    objective_losses,
)
from pipeline.settings.params import PARAMS_FILE, RUN_IN_ROOT, Params, ParamsError, load_params, read_yaml
from pipeline.settings.plugins import check_section, plugin_modules
from pipeline.training.needed_networks import task_network

Value = TypeVar("Value")
Result = TypeVar("Result")


def check_names(params: Params) -> None:
    """Check that all plug-ins in params.yaml exist and that their sections are valid.

    Names come first: most sections belong to modules that import torch, which takes longer than all checks of names.

    Raises:
        ParamsError: the first mistake, in one line that names the key and the choices.
    """
    for check in (
        _check_sources,
        _check_task_names,
        _check_arms,
        _check_degradations,
        _check_loss_names,
        _check_objectives,
        _check_restorers,
        _check_tasks,
        _check_losses,
    ):
        check(params)


def _check_sources(params: Params) -> None:
    for name, section in params.data.sections.items():
        check_section("sources", name, section, f"data.{name}")
    for photos_name, photos in params.degrade.real.items():
        if isinstance(photos, Unpaired):
            for name, section in photos.data.sections.items():
                check_section("sources", name, section, f"degrade.real.{photos_name}.data.{name}")


def _check_restorers(params: Params) -> None:
    restorer, sections = params.train_restorer.restorer, params.train_restorer.sections
    settings = {name: check_section("restorers", name, sections[name], f"train_restorer.{name}") for name in sections}
    wanting = [f"restorer is {CHECKPOINT!r}"] if restorer == CHECKPOINT else []
    wanting += [f"an objective is {FROZEN!r}"] if FROZEN in params.objectives else []
    if wanting and (CHECKPOINT not in settings or not settings[CHECKPOINT].weights):
        raise ParamsError(
            f"{PARAMS_FILE}: train_restorer.{CHECKPOINT}.weights: {wanting[0]}, which needs a file. Name it."
        )


def _check_task_names(params: Params) -> None:
    for task in params.tasks:
        _check_exists("tasks", task, plugin_modules("tasks"))
        params.task_settings(task)
    for task in params.train_task:
        _check_exists("train_task", task, plugin_modules("tasks"))


def _check_tasks(params: Params) -> None:
    for task, section in params.train_task.items():
        check_section("tasks", task, section, f"train_task.{task}")
    for task in params.retraining.train_task:
        _check_exists("retraining.train_task", task, params.train_task)
        check_section("tasks", task, params.retraining_settings(task), f"retraining.train_task.{task}")


def _check_arms(params: Params) -> None:
    for arm in params.arms:
        without = [task for task in params.tasks if not get_task(task).has_training_loss]
        if is_joint(arm) and without:
            raise ParamsError(f"{PARAMS_FILE}: arms: {arm!r}: {without[0]} cannot learn from crops. Remove either.")
        if arm == CLEAN_RETRAINED and params.retraining.start == "scratch":
            raise ParamsError(
                f"{PARAMS_FILE}: arms: {arm!r} repeats the stage train_task if retraining.start is scratch. Set it to "
                "clean, or remove the arm."
            )


def _check_degradations(params: Params) -> None:
    degrade = params.degrade
    kinds: dict[str, Iterable[str]] = {"recipes": degrade.recipes, "sweeps": degrade.sweeps, "real": degrade.real}
    for name in params.degradations:
        kind = next((kind for kind, names in kinds.items() if name in names), None)
        key = f"degrade.{kind}.{name}" if kind else "degradations"
        if kind and name in RECIPES:
            raise ParamsError(f"{PARAMS_FILE}: {key}: there is a recipe of this name. Choose another name.")
        if kind == "real":
            _check_photos(params, name)
        else:
            _check_recipe(params, key, name)
    for name in degrade.severity_of:
        if name in degrade.sweeps:
            raise ParamsError(
                f"{PARAMS_FILE}: degrade.severity_of: {name!r} is a sweep, without severities. Remove it."
            )
        _check_degradation(params, "degrade.severity_of", name)
        if name in params.degradations and not isinstance(degrade.severity, int):
            print(f"note: degrade.severity_of.{name} overrides the severities in degrade.severity.")


def _check_degradation(params: Params, key: str, name: str) -> None:
    if name not in params.degrade.real:
        _checked(key, lambda known: recipe_of(params.degrade, known), name)


def _check_photos(params: Params, name: str) -> None:
    """Real photos: their folder must exist, and the recipe that stands in for them in training."""
    photos = params.degrade.real[name]
    folder = Path(params.data.root) / photos.folder if isinstance(photos, Paired) else Path(photos.data.root)
    if not folder.is_dir():
        raise ParamsError(f"{PARAMS_FILE}: degrade.real.{name}: there is no folder {folder}. Correct the path.")
    if isinstance(photos, Unpaired):
        _check_unpaired(params, name, photos)


def _check_unpaired(params: Params, name: str, photos: Unpaired) -> None:
    key = f"degrade.real.{name}"
    if photos.recipe in params.degrade.sweeps:
        recipe = params.degrade.sweeps[photos.recipe].recipe
        raise ParamsError(
            f"{PARAMS_FILE}: {key}.recipe: {photos.recipe!r} is a sweep, which only evaluation images have. "
            f"Name a recipe, such as {recipe}."
        )
    _check_recipe(params, f"{key}.recipe", photos.recipe)
    if not Path(photos.data.root).resolve().is_relative_to(Path(params.data.root).resolve()):
        print(
            f"note: {key}.data.root: {photos.data.root} lies outside data.root, so DVC does not see changes of its "
            f"content. After a change, run `dvc repro -f degrade@{name}` first."
        )


def _check_recipe(params: Params, key: str, name: str) -> None:
    recipe = _checked(key, lambda known: recipe_of(params.degrade, known), name)
    _checked(key, require_still_pixels, recipe)


def _check_loss_names(params: Params) -> None:
    kinds = plugin_modules("losses")
    for name, section in params.losses.items():
        kind = loss_kind(name, params.losses)
        if section.get(BASE):
            _check_exists(f"losses.{name}.{BASE}", kind, kinds)
            if not is_loss_name(name):
                raise ParamsError(
                    f"{PARAMS_FILE}: losses.{name}: not a name for a loss. Choose one of letters, digits, '.', '_' "
                    "and '-' that has no other meaning."
                )
        elif kind not in kinds:
            raise ParamsError(
                f"{PARAMS_FILE}: losses: {name!r} is unknown. Choose one of {', '.join(kinds)}, or name one of them in "
                f"losses.{name}.{BASE} to define a named loss."
            )


def _check_losses(params: Params) -> None:
    for name, section in params.losses.items():
        settings = {key: value for key, value in section.items() if key != BASE}
        check_section("losses", loss_kind(name, params.losses), settings, f"losses.{name}")
    for objective in params.objectives:
        task_network(objective_losses(objective, params.losses), params.tasks)


def _check_objectives(params: Params) -> None:
    steps_of = params.train_restorer.steps_of
    for key, objectives in (("objectives", params.objectives), ("train_restorer.steps_of", steps_of)):
        for objective in objectives:
            _checked(key, lambda name: objective_losses(name, params.losses), objective)
    if FROZEN in steps_of:
        raise ParamsError(f"{PARAMS_FILE}: train_restorer.steps_of.{FROZEN}: {FROZEN!r} is not trained. Remove it.")


def check_numbers(params: Params) -> None:
    """Check numbers of different sections against each other, before any stage runs for hours.

    Raises:
        ParamsError: the first mistake, in one line that names the key.
    """
    _checked("train_prior.network", check_sizes, params.train_prior.network.model_dump())
    summed = [name for objective in params.objectives for name in objective_losses(objective, params.losses)]
    for loss in dict.fromkeys([*params.losses, *summed]):
        settings = loss_settings(loss, params.losses)
        _check_from_step(params, loss, settings.get("from_step", 0))
        for degradation in settings.get("timesteps_of", {}):
            _check_degradation(params, f"losses.{loss}.timesteps_of", degradation)
        if settings.get("prior", TRAINED) in (TRAINED, UNTRAINED):  # another prior has its own schedule: `try_losses`
            _check_timesteps(params, f"{loss}.timesteps", settings.get("timesteps", (0, 1)))
            for degradation, window in settings.get("timesteps_of", {}).items():
                _check_timesteps(params, f"{loss}.timesteps_of.{degradation}", window)


def _check_timesteps(params: Params, key: str, window: tuple[int, int]) -> None:
    steps = params.train_prior.schedule.steps
    if not 0 <= window[0] < window[1] <= steps and params.train_prior.pretrained is None:
        raise ParamsError(
            f"{PARAMS_FILE}: losses.{key}: expected 0 <= low < high <= {steps} "
            f"(train_prior.schedule.steps), got {list(window)}. Choose another window."
        )


def _check_from_step(params: Params, loss: str, first: int) -> None:
    for objective in params.objectives:
        steps = params.train_restorer.of(objective).steps
        if loss in objective_losses(objective, params.losses) and first >= steps:
            raise ParamsError(
                f"{PARAMS_FILE}: losses.{loss}.from_step: expected less than {steps} (the steps of {objective!r}), got "
                f"{first}. Lower it, or the loss is never used."
            )


def needs(params: Params) -> dict[str, bool]:
    """Which networks must be trained before the restorers."""
    return {"prior": any(needs_prior(objective_losses(name, params.losses)) for name in params.objectives)}


def _checked(key: str, check: Callable[[Value], Result], value: Value) -> Result:
    """The result of a check of another package. Its errors become errors about a key of params.yaml."""
    try:
        return check(value)
    except (DegradationError, GrammarError, NetworkError) as error:
        raise ParamsError(f"{PARAMS_FILE}: {key}: {error}") from error


def _check_exists(key: str, name: str, choices: Iterable[str]) -> None:
    if name not in list(choices):
        raise ParamsError(f"{PARAMS_FILE}: {key}: {name!r} is unknown. Choose one of {', '.join(choices)}.")


def main() -> None:
    """Command line."""
    options = parse_arguments("needs", "checked", "tasks", "restorer", "quality", "weights", "dag")
    params = load_params()
    check_complete(read_yaml(Path(options.dag), hint=RUN_IN_ROOT)["stages"])
    check_root(read_yaml(PARAMS_FILE, hint=RUN_IN_ROOT)["data"]["root"], Path(options.needs).parents[1])
    check_names(params)
    check_numbers(params)
    from pipeline.training import foreign_networks, pretrained_priors  # they import torch, which takes seconds

    watched = Path(options.weights)
    tasks = {task: foreign_networks.describe_task(task, params.task_settings(task), watched) for task in params.tasks}
    foreign_networks.check_frozen_classes(params)
    restorer = foreign_networks.describe_restorer(params.train_restorer, watched)
    foreign_networks.try_losses(params, watched)
    needed = needs(params)
    if needed["prior"] and params.train_prior.pretrained is not None:
        foreign_networks.check_diffusion_losses(params, pretrained_priors.try_prior(params.train_prior))
    _write(Path(options.needs), needed)
    _write(Path(options.checked), {"names": "checked"})
    _write(Path(options.restorer), restorer)
    _write(Path(options.quality), foreign_networks.describe_quality(params))
    with replacing_folder(Path(options.tasks)) as folder:
        for task, description in tasks.items():
            (folder / f"{task}.json").write_text(json.dumps(description, indent=1) + "\n")


def _write(path: Path, content: Mapping[str, Any]) -> None:
    with replacing(path) as scratch:
        scratch.write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    run_stage(main)
