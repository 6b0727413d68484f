"""params.yaml as typed, checked values. The only reader of params.yaml.

Types, ranges and keys are checked here, by every stage; names of degradations, and names and settings of losses
and tasks, by the stage `plan`, which comes first: if they were checked here, every stage would depend on the code
of all of them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML

from pipeline.settings.data import Data
from pipeline.settings.degrade import Degrade
from pipeline.settings.grammar import arm_fault
from pipeline.settings.sections import Count, Names, Positive, Section, Share
from pipeline.settings.training import FROZEN, Restore, TrainRestorer

PARAMS_FILE = Path("params.yaml")
ELSEWHERE = {"tracking", "engine", "processes"}  # what no result depends on: nothing runs again for it
LONGEST_VALUE = 200  # characters of a wrong value that a message shows


class ParamsError(ValueError):
    """params.yaml cannot be used; the text is one line that names the key and the choices."""


class PriorNetwork(Section):
    size: Annotated[int, Field(ge=8)]
    channels: Annotated[list[Annotated[int, Field(ge=8)]], Field(min_length=2)]
    blocks: Count
    attention: list[Count]


class Schedule(Section):
    steps: Count
    kind: Literal["linear", "squaredcos_cap_v2", "scaled_linear"]


class TrainPrior(Section):
    pretrained: str | None
    adm_settings: str | None
    network: PriorNetwork
    schedule: Schedule
    crop: Count
    steps: Count
    batch: Count
    learning_rate: Positive
    ema: Share
    samples: Count
    precision: Literal["full", "bf16"] = "full"


class Statistics(Section):
    resamples: Annotated[int, Field(ge=100)]
    level: Annotated[float, Field(gt=0.5, lt=1)]
    margin: Annotated[float, Field(ge=0)] = 0.005
    baselines: list[str] = Field(default=[])


class Quality(Section):
    prior_images: Annotated[int, Field(ge=0)] = 32


class Report(Section):
    pictures: Count
    extremes: Count = 10


class Tracking(Section):
    system_metrics: bool


class Params(Section):
    """The whole of params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=2**63)]  # what torch's generators take
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
    restore: Restore
    quality: Quality = Quality()
    statistics: Statistics
    report: Report
    tracking: Tracking
    engine: Literal["local", "ray"] = "local"
    processes: Count = 1

    @model_validator(mode="after")
    def _can_be_frozen(self) -> "Params":
        if FROZEN in self.objectives and self.train_restorer.restorer != "checkpoint":
            raise ValueError(
                f"objectives has {FROZEN!r}, a restorer used as it is, so that train_restorer.restorer must be "
                "checkpoint, with its file in train_restorer.checkpoint.weights"
            )
        return self

    @model_validator(mode="after")
    def _can_be_shared(self) -> "Params":
        for name, batch in (("train_prior", self.train_prior.batch), ("train_restorer", self.train_restorer.batch)):
            if batch % self.processes:
                raise ValueError(f"processes is {self.processes}, so that {name}.batch must be a multiple; got {batch}")
        return self

    @field_validator("degradations", "objectives", "tasks", "arms")
    @classmethod
    def _are_different(cls, names: list[str]) -> list[str]:
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"{min(twice)!r} occurs twice")
        return names

    @model_validator(mode="after")
    def _arms_exist(self) -> "Params":
        faults = [fault for name in self.arms if (fault := arm_fault(name, self.objectives))]
        if faults:
            raise ValueError(f"arms: {faults[0]}")
        return self

    @model_validator(mode="after")
    def _baselines_exist(self) -> "Params":
        for name in self.statistics.baselines:
            if name not in self.objectives or name in self.pixel_objectives:
                raise ValueError(
                    f"statistics.baselines has {name!r}: expected one of the objectives beside the pixel loss, with "
                    "which the others are compared anyway"
                )
        return self

    def task_settings(self, task: str) -> dict[str, Any]:
        """The section train_task.<task>.

        Raises:
            ParamsError: there is none.
        """
        if task not in self.train_task:
            raise ParamsError(
                f"{PARAMS_FILE}: tasks has {task!r}, so that a section train_task.{task} is needed; "
                f"there are: {', '.join(self.train_task)}"
            )
        return self.train_task[task]

    def losses_of(self, objective: str) -> dict[str, Any]:
        """The sections of losses that an objective is a sum of; empty for `clean`, `degraded` and `frozen`."""
        if objective not in self.objectives or objective == FROZEN:
            return {}
        names = {name.strip() for name in objective.split("+")}
        if not any(self._is_pixel(name) for name in names):
            names.add("pixel")
        return {name: section for name, section in self.loss_settings.items() if name in names}

    @property
    def pixel_objectives(self) -> list[str]:
        """The objectives that are the pixel loss alone, or a variant of it: what every other one is compared with."""
        return [name for name in self.objectives if self._is_pixel(name.strip())]

    def _is_pixel(self, loss: str) -> bool:
        return bool(self.losses.get(loss, {}).get("base", loss) == "pixel")

    @property
    def loss_settings(self) -> dict[str, Any]:
        """The sections of losses; a variant, one with the key `base`, takes over what it does not say itself."""
        return {
            name: {**self.losses.get(section.get("base", ""), {}), **section} for name, section in self.losses.items()
        }


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check params.yaml.

    Raises:
        ParamsError: no such file, no YAML, or a key, type or range that does not fit.
    """
    content = read_yaml(path, hint="run in the project's root")
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise ParamsError(f"{path}: {one_line(error, Params)}") from error


def read_yaml(path: Path, hint: str) -> Any:
    """The content of a YAML file; `hint` is what to do where there is none.

    Raises:
        ParamsError: no such file, or no YAML.
    """
    try:
        return YAML(typ="safe").load(path)  # YAML 1.2, as DVC reads it
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read ({error.strerror}); {hint}") from error
    except Exception as error:  # beside YAMLError, values of a tag (!!int x, 2001-99-99) fail in Python's own ways
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ParamsError(f"{path}: not valid YAML: {reason}") from error


def one_line(error: ValidationError, model: type[Section]) -> str:
    """The first mistake in one line, with its key, what is known there, and how many more there are."""
    # A misspelt key is both unknown and missing: the unknown one says which.
    first, *others = sorted(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"]) or "checked together"
    if first["type"] == "extra_forbidden":
        text = f"unknown key; known here: {', '.join(_known_keys(model, first['loc'][:-1]))}"
    else:
        text = first["msg"].removeprefix("Value error, ")
        text += "" if first["type"] in ("value_error", "missing") else f", got {_short(first['input'])}"
    return " ".join(f"{key}: {text}".split()) + (f" (and {len(others)} more)" if others else "")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def _known_keys(section: Any, location: tuple[int | str, ...]) -> list[str]:
    """The keys of the section at a location below another."""
    for part in location:
        field = section.model_fields.get(part)
        if field is not None:  # else the key of a mapping, or one of several types
            section = next(_sections(field.annotation), section)
    return [field.alias or name for name, field in section.model_fields.items()]


def _sections(annotation: Any) -> Iterator[type[Section]]:
    """The sections in a type, at any depth."""
    if isinstance(annotation, type) and not get_args(annotation) and issubclass(annotation, Section):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)
