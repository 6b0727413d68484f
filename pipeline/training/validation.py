"""Validation of a restorer while it trains, and what is chosen by it. Not a stage."""

import math
from typing import Any

import torch

from data import images
from data.dataset import Dataset, Split
from models.restorers.contract import Restorer
from pipeline.metrics.image_quality import METRICS
from pipeline.settings.training import Validation
from pipeline.training.distributed import TrainingRank
from pipeline.training.optimisation import TrainingError

VALIDATION = "val"


class Validator:
    """Measures the restorer on whole validation images every so many steps; keeps the best weights; says stop.

    Images are rounded to 8 bits first, so that its metrics are those of the stage `quality`. What it knows is in
    `state_dict`, so that a resumed training chooses and stops as if it had never been killed.

    Args:
        degraded: the validation split, degraded.
        clean: the same, clean.
        settings: how often, by what, on how many images, and whether to choose.
        rank: the processes that share the images; all of them know the whole outcome.
    """

    def __init__(self, degraded: Split, clean: Split, settings: Validation, rank: TrainingRank | None = None) -> None:
        self.settings = settings
        self._degraded, self._clean = degraded, clean
        self._ids = clean.ids[: settings.images]
        self._rank = rank or TrainingRank(torch.device("cpu"))
        self._best, self._without_gain = -math.inf, 0
        self._weights: dict[str, torch.Tensor] = {}

    def __call__(self, step: int, restorer: Restorer) -> dict[str, float]:
        """The validation metric after this many steps, by its name; nothing where none is due."""
        if self.settings.every is None or step % self.settings.every:
            return {}
        value = self._measure(restorer)
        if value > self._best:
            self._best, self._without_gain = value, 0
            if self.settings.keep_best:
                self._weights = {name: weight.detach().clone() for name, weight in restorer.state_dict().items()}
        else:
            self._without_gain += 1
        return {f"val_{self.settings.metric}": value}

    @property
    def says_stop(self) -> bool:
        """Whether as many validations in a row as `patience` brought no gain."""
        return self.settings.patience is not None and self._without_gain >= self.settings.patience

    def put_best(self, restorer: Restorer) -> None:
        """Put the best weights into a restorer, where they were to be kept."""
        if self._weights:
            restorer.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """The best value, its weights, and how long ago it was."""
        return {"best": self._best, "without_gain": self._without_gain, "weights": self._weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self._best, self._without_gain, self._weights = state["best"], state["without_gain"], state["weights"]

    def _measure(self, restorer: Restorer) -> float:
        metric = METRICS[self.settings.metric.upper()]
        device = next(restorer.parameters()).device
        was_training = restorer.training
        restorer.eval()
        values = {}
        for place in range(self._rank.index, len(self._ids), self._rank.count):
            id = self._ids[place]
            with torch.no_grad():
                restored = restorer(images.to_tensor(self._degraded.image(id))[None].to(device))[0].cpu()
            values[place] = metric(images.to_uint8(restored), self._clean.image(id))
        restorer.train(was_training)
        return sum(self._rank.gather(values, len(self._ids))) / len(self._ids)


def build_validator(
    degraded: Dataset, clean: Dataset, settings: Validation, rank: TrainingRank | None = None
) -> Validator | None:
    """The validator that the settings ask for, on the split `val` and no other one.

    Raises:
        TrainingError: there is no such split, it is empty, or it is the one that results are reported on and
            something is to be chosen by it.
    """
    if settings.every is None:
        return None
    if not clean.info.splits.get(VALIDATION):
        raise TrainingError(f"train_restorer.validation: {clean.folder} has no split {VALIDATION!r}; set every: null")
    if settings.chooses and clean.evaluation_split == VALIDATION:
        raise TrainingError(
            f"train_restorer.validation: results are reported on {VALIDATION!r}, because {clean.folder} has no split "
            "'test'; what is reported must not choose: set keep_best: false and patience: null"
        )
    return Validator(degraded.split(VALIDATION), clean.split(VALIDATION), settings, rank)
