"""The sections train_restorer and restore of params.yaml. Not a stage."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.settings.sections import Count, Positive, Section

Counts = Annotated[list[Count], Field(min_length=1)]
FROZEN = "frozen"  # the objective that trains nothing; models.losses.FROZEN for those who may import it
Decay = Annotated[float, Field(gt=0, lt=1)]


class UNet(Section):
    channels: Annotated[list[Count], Field(min_length=4, max_length=4)]
    blocks: Count


class NafNet(Section):
    width: Count
    encoder_blocks: Counts
    middle_blocks: Count
    decoder_blocks: Counts

    @model_validator(mode="after")
    def _is_symmetric(self) -> "NafNet":
        if len(self.encoder_blocks) != len(self.decoder_blocks):
            raise ValueError("encoder_blocks and decoder_blocks must have the same length")
        return self


class Restormer(Section):
    width: Annotated[int, Field(ge=2, multiple_of=2)]
    blocks: Counts
    heads: Counts
    refinement: Annotated[int, Field(ge=0)]
    expansion: Annotated[float, Field(ge=1)]

    @model_validator(mode="after")
    def _fits(self) -> "Restormer":
        if len(self.blocks) != len(self.heads):
            raise ValueError("blocks and heads must have the same length")
        channels = [self.width * 2**level for level in range(len(self.heads))]
        for width, heads in zip(channels, self.heads, strict=True):
            if width % heads:
                raise ValueError(f"a level of {width} channels cannot be shared among {heads} heads")
        return self


class RetinexFormer(Section):
    features: Annotated[int, Field(ge=4, multiple_of=4)]
    stages: Count
    blocks: Annotated[list[Count], Field(min_length=3, max_length=3)]


class Checkpoint(Section):
    weights: str | None


class Validation(Section):
    every: Count | None
    metric: Literal["psnr", "ssim"]
    images: Count | None
    keep_best: bool
    patience: Count | None

    @property
    def chooses(self) -> bool:
        """Whether what comes out depends on the validation images."""
        return self.keep_best or self.patience is not None

    @model_validator(mode="after")
    def _has_interval(self) -> "Validation":
        if self.chooses and self.every is None:
            raise ValueError("keep_best and patience need validation.every, a number of steps")
        return self


# What a training does where params.yaml leaves the section out: nothing.
NO_VALIDATION = Validation(every=None, metric="psnr", images=None, keep_best=False, patience=None)


class TrainRestorer(Section):
    """Which restorer, a section for each, and the training; a section is what makes a name of a restorer."""

    restorer: str
    unet: UNet | None = None
    nafnet: NafNet | None = None
    restormer: Restormer | None = None
    retinexformer: RetinexFormer | None = None
    checkpoint: Checkpoint | None = None
    crop: Annotated[int, Field(ge=16)]
    steps: Count
    steps_of: dict[str, Count] = Field(default={})  # objectives with a number of their own
    batch: Count
    learning_rate: Positive
    clean_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    repeats: Count = 1
    warm_up: Annotated[int, Field(ge=0)] = 0
    clip: Positive | None = 1.0
    precision: Literal["full", "bf16", "fp16"] = "full"
    ema: Decay | None = None
    validation: Validation = NO_VALIDATION

    @field_validator("restorer")
    @classmethod
    def _exists(cls, restorer: str) -> str:
        return cls.check_choice(restorer)

    @model_validator(mode="after")
    def _is_complete(self) -> "TrainRestorer":
        if getattr(self, self.restorer) is None:
            raise ValueError(
                f"restorer is {self.restorer!r}, so that a section train_restorer.{self.restorer} is needed"
            )
        if self.restorer == "checkpoint" and self.network["weights"] is None:
            raise ValueError("restorer is 'checkpoint', so that checkpoint.weights must name a file")
        for key, steps in (("steps", self.steps), *((f"steps_of.{name}", own) for name, own in self.steps_of.items())):
            if self.warm_up >= steps:
                raise ValueError(f"warm_up must be less than {key} ({steps}), got {self.warm_up}")
        return self

    def of(self, objective: str) -> "TrainRestorer":
        """The settings with the steps that this objective is trained for, however its sum is written."""
        own = {_parts(name): steps for name, steps in self.steps_of.items()}
        return self.model_copy(update={"steps": own.get(_parts(objective), self.steps), "steps_of": {}})

    @property
    def network(self) -> dict[str, Any]:
        """The section of the chosen restorer."""
        section: Section = getattr(self, self.restorer)
        return section.model_dump()

    @property
    def training(self) -> dict[str, Any]:
        """All that does not describe a network."""
        return self.model_dump(exclude=set(self.choices()))

    @property
    def used(self) -> dict[str, Any]:
        """All that a training depends on: everything but the sections of the restorers that are not chosen."""
        return {**self.training, self.restorer: self.network}


class Restore(Section):
    tile: Annotated[int, Field(ge=32)] | None
    overlap: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _fits(self) -> "Restore":
        if self.tile is not None and 2 * self.overlap > self.tile:
            raise ValueError(f"overlap must be at most half of tile ({self.tile}), got {self.overlap}")
        return self


def _parts(objective: str) -> frozenset[str]:
    """The losses that an objective names; the pixel loss is part of each, so that it counts only alone."""
    names = frozenset(name.strip() for name in objective.split("+"))
    return names - {"pixel"} or names
