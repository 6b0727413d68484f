"""params.yaml as typed, checked values. The only reader of params.yaml.

Every stage reads the whole file and checks its types, ranges and keys. The stage `plan`, which comes first, checks all
names of plug-ins and their sections: reading the file does not load any plug-in.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError
from ruamel.yaml import YAML

from models.settings import Count, Names, NonNegative, Settings
from pipeline.settings.data import Data, Degrade
from pipeline.settings.errors import PARAMS_FILE, ParamsError, one_line
from pipeline.settings.grammar import (
    BASE,
    arm_error,
    is_pixel_objective,
    is_retrained,
    mixture_name,
    objective_losses,
)
from pipeline.settings.retraining import Retraining
from pipeline.settings.training import Restore, TrainPrior, TrainRestorer

__all__ = ["ELSEWHERE", "PARAMS_FILE", "RUN_IN_ROOT", "Params", "ParamsError", "load_params", "read_yaml"]

DAG = Path("dvc.yaml")
RUN_IN_ROOT = "Run this in the project's root."
ELSEWHERE = {"tracking", "engine", "processes"}  # no result depends on these keys: changing them re-runs nothing


def load_params(path: Path = PARAMS_FILE) -> "Params":
    """Read and check params.yaml. Paths that begin with ~ are those below the user's home folder.

    Raises:
        ParamsError: the file is missing or no YAML, or a key, type or range is wrong.
    """
    content = _with_home(read_yaml(path, hint=RUN_IN_ROOT))
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise ParamsError(f"{path}: {one_line(error, Params)}") from error


def _with_home(content: Any, parents: tuple[Any, ...] = ()) -> Any:
    """The same content with ~/ at the beginning of texts expanded. YAML can hold a value inside itself."""
    if any(content is parent for parent in parents):
        return content
    if isinstance(content, dict):
        return {key: _with_home(value, (*parents, content)) for key, value in content.items()}
    if isinstance(content, list):
        return [_with_home(value, (*parents, content)) for value in content]
    return str(Path(content).expanduser()) if isinstance(content, str) and content.startswith("~/") else content


def read_yaml(path: Path, hint: str) -> Any:
    """The content of a YAML file.

    Args:
        path: of the file.
        hint: a sentence that says what to do if the file is missing.

    Raises:
        ParamsError: the file is missing or no YAML.
    """
    try:
        return YAML(typ="safe", pure=True).load(path)  # YAML 1.2, as DVC reads it
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read ({error.strerror}). {hint}") from error
    except Exception as error:  # YAMLError, and Python errors about the values of tags (!!int x, 2001-99-99)
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ParamsError(f"{path}: not valid YAML: {reason}. Correct the file.") from error


class Statistics(Settings):
    """Confidence intervals and comparisons.

    Attributes:
        resamples: bootstrap resamples of the images, or of their groups.
        level: confidence level of every interval.
        margin: smallest gain worth having; an interval that ends below it says that restoring does not help.
        baselines: objectives that all others are compared with, as they are with the pixel loss.
    """

    resamples: Annotated[int, Field(ge=100)]
    level: Annotated[float, Field(gt=0.5, lt=1)]
    margin: Annotated[float, Field(ge=0)] = 0.005
    baselines: list[str] = Field(default=[])

    @model_validator(mode="before")
    @classmethod
    def _has_new_names(cls, content: Any) -> Any:
        if isinstance(content, dict) and "rivals" in content:
            renamed = PydanticCustomError("value_error", "this key is now called statistics.baselines. Rename it.")
            mistake = InitErrorDetails(type=renamed, loc=("rivals",), input=content["rivals"])
            raise ValidationError.from_exception_data(cls.__name__, [mistake])
        return content


class Quality(Settings):
    """Image quality.

    Attributes:
        prior_images: test images on which the terms of DiffLoss are measured as quality metrics; 0: none.
        precision: of the prior that measures them: full, or bf16, which is faster if the hardware multiplies bfloat16.
        no_reference: further metrics that need no clean counterpart, such as [PIQE].
    """

    prior_images: NonNegative = 12
    precision: Literal["full", "bf16"] = "full"
    no_reference: list[Literal["PIQE"]] = Field(default=[])


class Report(Settings):
    """The report.

    Attributes:
        pictures: test images in each picture grid.
        extremes: images in the grids of the largest gains and losses.
    """

    pictures: Count
    extremes: Count = 10


class Tracking(Settings):
    """MLflow.

    Attributes:
        system_metrics: log processor, memory, disk and GPU of trainings that are longer than `live_after`. Re-runs no
            stage.
        deleted: an experiment that someone deleted in MLflow is restored, or replaced by a new one.
        live_after: seconds of a training after which its curve is in MLflow while it grows. Curves of shorter trainings
            come with the stage `publish`.
    """

    system_metrics: bool
    deleted: Literal["restore", "replace"] = "restore"
    live_after: Annotated[float, Field(ge=0)] = 120.0


class Params(Settings):
    """Every choice and every number of a run.

    Attributes:
        seed: seed of all random numbers.
        data: the dataset.
        degradations: recipes, chains of degrade.recipes, or photos of degrade.real.
        objectives: losses that restorers are trained with: names, or sums such as pixel + task.
        tasks: recognition tasks.
        arms: further comparisons: degraded-retrained, clean-retrained, <objective>-retrained, <objective>-joint,
            clean-restored-<objective>.
        degrade: how clean images are degraded.
        train_prior: the diffusion prior.
        train_task: the networks of the tasks.
        losses: settings of the losses, and named losses: a name of your own, with the key base.
        train_restorer: the restorer and its training.
        restore: tiles of large images.
        quality: image quality.
        statistics: intervals and comparisons.
        report: pictures of the report.
        tracking: MLflow.
        engine: where work on single images runs: on this machine, or on a Ray cluster. Re-runs no stage.
        processes: number of processes that share one training of a restorer or of the prior. Re-runs no stage.
    """

    seed: Annotated[int, Field(ge=0, lt=2**63)]  # the range of torch's generators
    data: Data
    degradations: Names
    objectives: Names
    tasks: Names
    arms: list[str] = Field(default=[])
    degrade: Degrade
    train_prior: TrainPrior
    train_task: dict[str, dict[str, Any]]
    losses: dict[str, dict[str, Any]]
    train_restorer: TrainRestorer
    retraining: Retraining = Retraining()
    restore: Restore
    quality: Quality = Quality()
    statistics: Statistics
    report: Report
    tracking: Tracking
    engine: Literal["local", "ray"] = "local"
    processes: Count = 1

    @field_validator("degradations", "objectives", "tasks", "arms")
    @classmethod
    def _are_different(cls, names: list[str]) -> list[str]:
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"{min(twice)!r} occurs twice. Name it once.")
        return names

    @model_validator(mode="after")
    def _mixtures_exist(self) -> "Params":
        mixtures = self.train_restorer.mixtures
        for objective in self.objectives:
            name = mixture_name(objective)
            if name is not None and name not in mixtures:
                choices = ", ".join(mixtures) or "none, add one"
                raise ValueError(
                    f"objectives: {objective!r}: {name!r} is not in train_restorer.mixtures. Choose from: {choices}."
                )
            unknown = [member for member in mixtures.get(name or "", ()) if member not in self.degradations]
            if unknown:
                raise ValueError(
                    f"train_restorer.mixtures.{name}: {unknown[0]!r} is not among the degradations. Choose from "
                    f"{', '.join(self.degradations)}, or add it there."
                )
        return self

    @model_validator(mode="after")
    def _batches_can_be_split(self) -> "Params":
        for name, batch in (("train_prior", self.train_prior.batch), ("train_restorer", self.train_restorer.batch)):
            if batch % self.processes:
                raise ValueError(
                    f"{name}.batch: {batch} cannot be divided among {self.processes} processes. Choose a multiple of "
                    f"{self.processes}."
                )
        return self

    @model_validator(mode="after")
    def _arms_exist(self) -> "Params":
        for name in self.arms:
            if error := arm_error(name, self.objectives):
                raise ValueError(f"arms: {error}")
        return self

    @model_validator(mode="after")
    def _arms_have_a_restorer_each(self) -> "Params":
        repeats, restorers = self.retraining.repeats, self.train_restorer.repeats
        if repeats not in (1, restorers) and any(map(is_retrained, self.arms)):
            choices = f"1 or {restorers} (train_restorer.repeats)" if restorers > 1 else "1 (train_restorer.repeats)"
            raise ValueError(f"retraining.repeats: expected {choices}, got {repeats}. Change either.")
        return self

    @model_validator(mode="after")
    def _baselines_exist(self) -> "Params":
        for name in self.statistics.baselines:
            if name not in self.objectives or name in self.pixel_objectives or mixture_name(name):
                excluded = (*self.pixel_objectives, *filter(mixture_name, self.objectives))
                choices = [objective for objective in self.objectives if objective not in excluded]
                raise ValueError(
                    f"statistics.baselines: {name!r} is unknown, or a pixel loss, which is always a baseline. "
                    f"Choose from these objectives: {', '.join(choices)}."
                )
        return self

    def task_settings(self, task: str) -> dict[str, Any]:
        """The section train_task.<task>.

        Raises:
            ParamsError: there is no such section.
        """
        if task not in self.train_task:
            raise ParamsError(
                f"{PARAMS_FILE}: tasks: {task!r} needs a section train_task.{task}. Add it, or choose one of "
                f"{', '.join(self.train_task)}."
            )
        return self.train_task[task]

    def retraining_settings(self, task: str) -> dict[str, Any]:
        """What arms train with: the section train_task.<task>, changed by retraining.train_task.<task>, not frozen."""
        section = {key: value for key, value in self.task_settings(task).items() if key != "frozen"}
        changes = self.retraining.train_task.get(task)
        return section | (changes.model_dump(exclude_none=True) if changes else {})

    def losses_of(self, objective: str) -> dict[str, dict[str, Any]]:
        """The sections of an objective's losses; {} for a variant that is no objective."""
        if objective not in self.objectives:
            return {}
        sections = {}
        for name, (kind, settings) in objective_losses(objective, self.losses).items():
            if name in self.losses:
                sections[name] = settings if kind == name else {BASE: kind, **settings}
        return sections

    @property
    def pixel_objectives(self) -> list[str]:
        """The objectives that are the pixel loss alone, also under another name: baselines of all other objectives."""
        return [name for name in self.objectives if is_pixel_objective(name, self.losses)]
