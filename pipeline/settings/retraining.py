"""The section retraining of params.yaml: how the task networks of arms are trained."""

from typing import Annotated, Literal

from pydantic import Field

from models.settings import Count, Positive, Settings

NonNegativeFloat = Annotated[float, Field(ge=0)]


class Joint(Settings):
    """Arms `<objective>-joint`: a restorer and a task network that are trained together.

    Attributes:
        mix: images that the task network sees beside the restored ones.
        crop: side of their training crops, in pixels.
        strength: of the features of the task network in the restorer's objective.
        restorer_rate: factor of the learning rate in `train_restorer`.
        task_rate: factor of the learning rate in `train_task`.
    """

    mix: Literal["degraded", "clean"] = "degraded"
    crop: Annotated[int, Field(ge=32)] = 128
    strength: NonNegativeFloat = 1.0
    restorer_rate: Positive = 0.1
    task_rate: Positive = 0.1


class RetrainedTask(Settings):
    """How long and how fast arms train the network of one task; null: as in `train_task.<name>`.

    Attributes:
        steps: of the optimiser, for tasks that have this key.
        epochs: passes over the training images, for tasks that have this key.
        batch: images.
        learning_rate: the highest of the schedule.
    """

    steps: Count | None = None
    epochs: Count | None = None
    batch: Count | None = None
    learning_rate: Positive | None = None


class Retraining(Settings):
    """How the task networks of arms are trained.

    Attributes:
        start: of arms `...-retrained`: scratch (as in `train_task`), or clean (the network trained on clean images).
        repeats: trainings of each arm, with different seeds: 1, or as many as `train_restorer.repeats`. Training k of
            `<objective>-retrained` and `<objective>-joint` has the restorer of training k.
        train_task: settings of single tasks that differ from those in `train_task` in all arms that train, such as
            `segmentation: {steps: 900}`.
        joint: settings of arms `<objective>-joint`.
    """

    start: Literal["scratch", "clean"] = "scratch"
    repeats: Count = 1
    train_task: dict[str, RetrainedTask] = Field(default={})
    joint: Joint = Joint()
