"""Validation of a restorer while it trains: the score, the best weights, early stopping."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from data import images
from data.dataset import Dataset, Split
from models.restorers.contract import Restorer
from pipeline.metrics.fidelity import FIDELITY
from pipeline.settings.training import Validation
from pipeline.training.distributed import TrainingRank
from pipeline.training.optimisation import TrainingError

VALIDATION = "val"


class Validator:
    """Scores the restorer on whole validation images every `every` steps, and keeps the best weights.

    Images are rounded to 8 bits first, so that its scores are those of the stage `quality`. Its state is part of the
    checkpoint: a resumed training chooses the same weights and stops at the same step.

    Args:
        degraded: the validation split, degraded; several if the restorer is trained on a mixture: they take turns, so
            that each image is scored in one of them.
        clean: the same, clean.
        settings: interval, metric, number of images, and what the score decides.
        rank: this process as a rank of the training. Each rank scores some images; all know the mean.
    """

    def __init__(
        self, degraded: Sequence[Split], clean: Split, settings: Validation, rank: TrainingRank | None = None
    ) -> None:
        self.settings = settings
        self._degraded, self._clean = degraded, clean
        self._ids = clean.ids[: settings.images]
        self._rank = rank or TrainingRank(torch.device("cpu"))
        self._best, self._without_gain = -math.inf, 0
        self._weights: dict[str, torch.Tensor] = {}

    def __call__(self, step: int, restorer: Restorer) -> dict[str, float]:
        """The score after this many steps, as `val_<metric>`; empty if no validation is due."""
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
        """Whether the last `patience` validations brought no gain."""
        return self.settings.patience is not None and self._without_gain >= self.settings.patience

    def put_best(self, restorer: Restorer) -> None:
        """Load the best weights into a restorer, if `keep_best` is set."""
        if self._weights:
            restorer.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """The best score, its weights, and the number of validations since."""
        return {"best": self._best, "without_gain": self._without_gain, "weights": self._weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._best, self._without_gain, self._weights = state["best"], state["without_gain"], state["weights"]

    def _measure(self, restorer: Restorer) -> float:
        metric = FIDELITY[self.settings.metric.upper()]
        device = next(restorer.parameters()).device
        was_training = restorer.training
        restorer.eval()
        values = {}
        for index in range(self._rank.index, len(self._ids), self._rank.count):
            image_id = self._ids[index]
            with torch.no_grad():
                image = self._degraded[index % len(self._degraded)].image(image_id)
                restored = restorer(images.to_tensor(image)[None].to(device))[0].cpu()
            values[index] = metric(images.to_uint8(restored), self._clean.image(image_id))
        restorer.train(was_training)
        return sum(self._rank.gather(values, len(self._ids))) / len(self._ids)


def build_validator(
    degraded: Sequence[Dataset], clean: Dataset, settings: Validation, rank: TrainingRank | None = None
) -> Validator | None:
    """The validator on the split `val`; None if the settings ask for none.

    Raises:
        TrainingError: there is no such split, it is empty, or results are reported on it and the settings choose
            weights or the number of steps by it.
    """
    if settings.every is None:
        return None
    if not clean.info.splits.get(VALIDATION):
        raise TrainingError(f"train_restorer.validation: {clean.folder} has no split {VALIDATION!r}. Set every: null.")
    if settings.chooses and clean.evaluation_split == VALIDATION:
        raise TrainingError(
            f"train_restorer.validation: results are reported on {VALIDATION!r}, because {clean.folder} has no split "
            "'test'. The split of the results must not choose: set keep_best: false and patience: null."
        )
    return Validator([dataset.split(VALIDATION) for dataset in degraded], clean.split(VALIDATION), settings, rank)
