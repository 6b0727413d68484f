"""The sections train_prior, train_restorer and restore of params.yaml."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from models.settings import Count, NonNegative, Positive, Settings, Share
from pipeline.settings.data import Name
from pipeline.settings.grammar import CHECKPOINT, is_mixture_name, mixture_name, same_losses
from pipeline.settings.plugins import PluginSections, plugin_modules

Decay = Annotated[float, Field(gt=0, lt=1)]
Members = Annotated[tuple[str, ...], Field(min_length=2)]  # names of degradations


class PriorNetwork(Settings):
    """The U-Net of the diffusion prior.

    Attributes:
        size: side of the training images, in pixels.
        channels: channels of each level, from fine to coarse; each level after the first halves the size.
        blocks: residual blocks at each level.
        attention: sizes in pixels at which a level has attention.
    """

    size: Annotated[int, Field(ge=8)]
    channels: Annotated[list[Annotated[int, Field(ge=8)]], Field(min_length=2)]
    blocks: Count
    attention: list[Count]


class Schedule(Settings):
    """The noise schedule of the diffusion prior.

    Attributes:
        steps: number of timesteps.
        kind: how the noise grows over the timesteps, in the names of diffusers.
    """

    steps: Count
    kind: Literal["linear", "squaredcos_cap_v2", "scaled_linear"]


class TrainPrior(Settings):
    """The diffusion model of the clean images, in which DiffLoss compares noise and h-space features.

    Attributes:
        pretrained: a diffusers folder or hub id, or an ADM checkpoint, instead of training; None: train.
        adm_settings: JSON file with the settings of an ADM checkpoint.
        network: the U-Net.
        schedule: the noise schedule.
        crop: side of the square crops in pixels, which are resized to network.size.
        steps: training steps.
        batch: crops in a training step.
        learning_rate: learning rate of AdamW.
        ema: decay of the running mean of the weights; the mean is saved.
        samples: images that are drawn from the trained prior.
        precision: precision of the U-Net in training: full (float32), bf16, or auto: bf16 if the processor
            multiplies it.
        warm_up: steps in which the learning rate rises.
        decay: of the learning rate afterwards.
        min_snr: largest signal-to-noise ratio that counts (Hang et al., ICCV 2023), such as 5; None: all alike.
        held_out: images of the split val on which the denoising error is measured; 0: none.
        null_class: index of the class "none" of a class-conditional pretrained prior.
    """

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
    precision: Literal["auto", "full", "bf16"] = "full"
    warm_up: NonNegative = 0
    decay: Literal["constant", "cosine"] = "constant"
    min_snr: Positive | None = None
    held_out: NonNegative = 16
    null_class: NonNegative | None = None

    @model_validator(mode="after")
    def _warms_up_in_time(self) -> "TrainPrior":
        if self.warm_up >= self.steps:
            raise ValueError(f"warm_up must be less than steps ({self.steps}), got {self.warm_up}. Lower it.")
        return self

    @model_validator(mode="after")
    def _has_a_null_class_only_if_pretrained(self) -> "TrainPrior":
        if self.null_class is not None and self.pretrained is None:
            raise ValueError("null_class is of a pretrained prior, and pretrained is null. Remove null_class.")
        return self


class Validation(Settings):
    """When a training scores its restorer on validation images, and what the score decides.

    Attributes:
        every: steps between two validations on whole images of the split val; None: no validation.
        metric: quality metric of the validation.
        images: number of validation images; None: all of them.
        keep_best: keep the weights with the best validation score instead of the last ones.
        patience: stop after so many validations without a better score; None: never.
    """

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
    """The chosen restorer, its training, and the restorers' sections. The chosen restorer needs one.

    Attributes:
        restorer: architecture, which needs a section of this name beside it; other sections have no effect.
        crop: side of the square training crops, in pixels.
        steps: training steps.
        steps_of: other numbers of steps of single objectives, such as {pixel: 300}.
        mixtures: degradations that one restorer is trained on, by the name of the mixture, such as {all: [fog, rain]}.
        batch: crops in a training step.
        learning_rate: largest learning rate of AdamW.
        clean_share: share of the training pairs whose input is clean too, so that clean images stay as they are.
        repeats: trainings of each restorer, with different seeds; verdicts between objectives need 5 or more.
        warm_up: steps in which the learning rate rises; afterwards it falls along a cosine.
        clip: largest norm of the gradient; None: no limit.
        precision: precision of the restorer in training: full (float32), bf16, auto (bf16 if the processor multiplies
            it), or fp16 on a GPU.
        ema: decay of the running mean of the weights, such as 0.999; None: no mean.
        validation: when a training scores its restorer, and what the score decides.
    """

    kind: ClassVar[str] = "restorers"
    restorer: str
    crop: Annotated[int, Field(ge=16)]
    steps: Count
    steps_of: dict[str, Count] = Field(default={})
    mixtures: dict[Name, Members] = Field(default={})
    batch: Count
    learning_rate: Positive
    clean_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    repeats: Count = 1
    warm_up: NonNegative = 0
    clip: Positive | None = 1.0
    precision: Literal["auto", "full", "bf16", "fp16"] = "full"
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


class Restore(Settings):
    """The tiles in which large images are restored, and the precision of the restorer.

    Attributes:
        tile: side of the tiles that larger images are cut into, in pixels; None: images stay whole.
        overlap: pixels that neighbouring tiles share and blend; at most half a tile.
        precision: of the restorer: full (float32); bf16, which is many times slower on a processor that does not
            multiply it; or auto: bf16 if the processor multiplies it.
    """

    tile: Annotated[int, Field(ge=32)] | None
    overlap: NonNegative
    precision: Literal["auto", "full", "bf16"] = "full"

    @model_validator(mode="after")
    def _fits(self) -> "Restore":
        if self.tile is not None and 2 * self.overlap > self.tile:
            raise ValueError(f"overlap must be at most half of tile ({self.tile}), got {self.overlap}. Lower it.")
        return self


def restorer_modules(name: str = CHECKPOINT) -> list[str]:
    """The modules of a restorer, by its name in RESTORERS. A checkpoint can hold any restorer: all modules."""
    modules = plugin_modules("restorers")
    return list(modules.values()) if name == CHECKPOINT else [modules[name]]
