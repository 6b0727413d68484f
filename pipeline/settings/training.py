"""The sections train_restorer and restore of params.yaml."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from models.settings import Count, NonNegative, Positive, Settings
from pipeline.settings.data import Name
from pipeline.settings.grammar import is_mixture_name, mixture_name, same_losses
from pipeline.settings.plugins import PluginSections

NonNegativeFloat = Annotated[float, Field(ge=0)]
Decay = Annotated[float, Field(gt=0, lt=1)]
Members = Annotated[tuple[str, ...], Field(min_length=2)]  # names of degradations


class Validation(Settings):
    """When a training scores its restorer on validation images, and what the score decides."""

    every: Count | None
    metric: Literal["psnr", "ssim"]
    images: Count | None
    keep_best: bool
    patience: Count | None

    @property
    def chooses(self) -> bool:
        """Whether the validation scores choose the weights that a training returns."""
        return self.keep_best or self.patience is not None

    @model_validator(mode="after")
    def _has_interval(self) -> "Validation":
        if self.chooses and self.every is None:
            raise ValueError("keep_best and patience need validation.every. Set it to a number of steps.")
        return self


# Without the section, a training does no validation.
NO_VALIDATION = Validation(every=None, metric="psnr", images=None, keep_best=False, patience=None)


class TrainRestorer(PluginSections):
    """The chosen restorer, its training, and the restorers' sections. The chosen restorer needs one."""

    kind: ClassVar[str] = "restorers"
    restorer: str
    crop: Annotated[int, Field(ge=16)]
    steps: Count
    steps_of: dict[str, Count] = Field(default={})  # of single objectives
    mixtures: dict[Name, Members] = Field(default={})  # degradations that one restorer is trained on, by name
    batch: Count
    learning_rate: Positive
    clean_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    repeats: Count = 1
    warm_up: NonNegative = 0
    clip: Positive | None = 1.0
    precision: Literal["full", "bf16", "fp16"] = "full"
    ema: Decay | None = None
    validation: Validation = NO_VALIDATION

    @field_validator("restorer")
    @classmethod
    def _exists(cls, restorer: str) -> str:
        return cls.check_choice(restorer)

    @model_validator(mode="after")
    def _has_section(self) -> "TrainRestorer":
        if self.restorer not in self.sections:
            raise ValueError(
                f"restorer is {self.restorer!r}, which needs a section train_restorer.{self.restorer}. Add it."
            )
        return self

    @field_validator("mixtures")
    @classmethod
    def _have_plain_names(cls, mixtures: dict[str, Members]) -> dict[str, Members]:
        for name, members in mixtures.items():
            if not is_mixture_name(name):
                raise ValueError(f"{name!r} is part of other names of objectives or arms. Choose another name.")
            if len(set(members)) < len(members):
                raise ValueError(f"{name}: a degradation occurs twice in {list(members)}. Name each one once.")
        return mixtures

    @model_validator(mode="after")
    def _warms_up_in_time(self) -> "TrainRestorer":
        lengths = {"steps": self.steps, **{f"steps_of.{name}": steps for name, steps in self.steps_of.items()}}
        for key, steps in lengths.items():
            if self.warm_up >= steps:
                raise ValueError(f"warm_up must be less than {key} ({steps}), got {self.warm_up}. Lower it.")
        return self

    def of(self, objective: str) -> "TrainRestorer":
        """The settings of one objective, in any spelling of its sum: its number of steps, and its mixture."""
        steps_of = {same_losses(name): steps for name, steps in self.steps_of.items()}
        mixtures = {name: members for name, members in self.mixtures.items() if name == mixture_name(objective)}
        steps = steps_of.get(same_losses(objective), self.steps)
        return self.model_copy(update={"steps": steps, "steps_of": {}, "mixtures": mixtures})

    def mixture(self, objective: str) -> tuple[str, ...]:
        """The degradations that the restorer of an objective is trained on together; empty: each by itself.

        Raises:
            KeyError: there is no mixture of this name.
        """
        name = mixture_name(objective)
        return self.mixtures[name] if name else ()

    @property
    def network(self) -> dict[str, Any]:
        """The section of the chosen restorer, as it stands in the file."""
        return self.sections[self.restorer]

    @property
    def training(self) -> dict[str, Any]:
        """All settings except the sections of restorers. Mixtures only if there are any."""
        return self.model_dump(include=set(type(self).model_fields) - (set() if self.mixtures else {"mixtures"}))

    @property
    def used(self) -> dict[str, Any]:
        """All settings that a training depends on, without the sections of restorers that are not chosen."""
        return {**self.training, self.restorer: self.network}


class Joint(Settings):
    """Arms `<objective>-joint`: a restorer and a task network that go on training together."""

    mix: Literal["degraded", "clean"] = "degraded"
    crop: Annotated[int, Field(ge=32)] = 128
    strength: NonNegativeFloat = 1.0
    restorer_rate: Positive = 0.1
    task_rate: Positive = 0.1


class Retraining(Settings):
    """How the task networks of arms are trained."""

    start: Literal["scratch", "clean"] = "scratch"
    joint: Joint = Joint()


class Restore(Settings):
    """The tiles in which large images are restored."""

    tile: Annotated[int, Field(ge=32)] | None
    overlap: NonNegative

    @model_validator(mode="after")
    def _fits(self) -> "Restore":
        if self.tile is not None and 2 * self.overlap > self.tile:
            raise ValueError(f"overlap must be at most half of tile ({self.tile}), got {self.overlap}. Lower it.")
        return self
