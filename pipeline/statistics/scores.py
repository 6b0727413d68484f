"""The systems of one task and degradation, scored in the same resamples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data.dataset import group_labels
from pipeline.metrics import Scores, load_records
from pipeline.metrics.records import Metrics
from pipeline.running.artifacts import record_files
from pipeline.running.seeds import seed_for
from pipeline.settings.grammar import CLEAN, DEGRADED, FROZEN, parse_arm
from pipeline.settings.params import Params
from pipeline.statistics.resampling import Resamples
from pipeline.statistics.systems import System

Loaded = TypeVar("Loaded")
Cell = Mapping[str, System]  # by variant
NO_GROUPS: Mapping[str, str] = {}
OF_CLASS = " of class "  # between a metric and a class in the name of a class's score


@dataclass(frozen=True)
class Cells:
    """One task and degradation: the scores over all severities, and those of each severity by itself."""

    whole: Cell
    severities: Mapping[int | None, Cell]  # None: a published setting, or real photos
    classes: Cell = field(default_factory=dict)  # the scores of each class over all severities; see ScoresWithClasses


@dataclass(frozen=True)
class ScoresWithClasses:
    """The scores of a task, and those of each class as further metrics, such as "AP50 of class car"."""

    records: Any  # of a task: DetectionRecords, SegmentationRecords or ClassificationRecords

    @classmethod
    def load(cls, path: Path) -> "ScoresWithClasses":
        """Read a file of records."""
        return cls(load_records(path))

    @property
    def image_ids(self) -> tuple[str, ...]:
        """The ids of the N images."""
        image_ids: tuple[str, ...] = self.records.image_ids
        return image_ids

    def rarest_class(self, taken: NDArray[np.int64]) -> tuple[str, int] | None:
        """As `DetectionRecords.rarest_class`; None for other records."""
        of_records = getattr(self.records, "rarest_class", None)
        return of_records(taken) if of_records else None

    def metrics(self, weights: ArrayLike | None = None) -> Metrics:
        """As `Scores.metrics`; the score of a class is NaN if a resample has nothing of it."""
        metrics, classes = self.records.scores(weights)
        by_class = {f"{metric}{OF_CLASS}{name}": v for name, part in classes.items() for metric, v in part.items()}
        return {**metrics, **by_class}


def read_cells(
    params: Params,
    folders: Mapping[str, Path],
    severities: Mapping[str, Mapping[str, int]] | None = None,
    load: Callable[[Path], Scores] = load_records,
    groups: Mapping[str, str] = NO_GROUPS,
    splits_of: str = DEGRADED,
    clean: dict[Any, System] | None = None,
) -> Cells:
    """Read the records of every variant and score them in the same resamples.

    All cells with the same groups are resampled with the same weights, so that gains are paired. If the split has a
    copy for each severity, the whole is the mean over the copies.

    Args:
        params: seed, number of resamples and objectives.
        folders: variant to the folder that holds <split>/ with its records.
        severities: of each image, by split; without it no severity is known.
        load: reads other scores than the tables', from a file of records or what lies beside it.
        groups: of the images that are not independent, by their ids.
        splits_of: the variant whose splits and images are scored.
        clean: what has been scored of the same clean images before, with the same `load`. It is filled, so that all
            copies of a split, and all degradations that share it, score them once.
    """
    known: dict[Any, System] = {} if clean is None else clean
    records = {variant: read_trainings(folder, load) for variant, folder in folders.items()}
    splits = list(records[splits_of])
    image_ids = records[splits_of][splits[0]][0].image_ids
    resamples = shared_resamples(params, image_ids, groups)

    def score(variant: str, split: str, ids: Sequence[str] | None) -> System:
        tables = _of_split(records[variant], split)
        if variant != CLEAN:
            return System.from_tables(tables, resamples, is_trained(variant, params), ids)
        drawn = tables[0].image_ids, resamples.labels.tobytes(), None if ids is None else tuple(ids)
        if drawn not in known:
            known[drawn] = System.from_tables(tables, resamples, ids=ids)
        return known[drawn]

    def cell(split: str, ids: Sequence[str] | None = None) -> Cell:
        return {variant: score(variant, split, ids) for variant in records}

    cells = {split: cell(split) for split in splits}
    by_severity: dict[int | None, Cell] = {}
    for split in splits:
        severity_of = severities.get(split, {}) if severities else {}
        for severity in sorted(set(severity_of.values())):
            ids = [image_id for image_id, level in severity_of.items() if level == severity]
            by_severity[severity] = cells[split] if len(ids) == len(image_ids) else cell(split, ids)
    whole = {variant: System.mean([cells[split][variant] for split in splits]) for variant in records}
    overall = {severity: _selected(cell, classes=False) for severity, cell in by_severity.items()}
    totals = _selected(whole, classes=False)
    return Cells(totals, overall or {None: totals}, _selected(whole, classes=True))


def _selected(cell: Cell, classes: bool) -> Cell:
    """A cell with the scores of single classes only, or without them."""
    return {variant: system.only(lambda name: (OF_CLASS in name) == classes) for variant, system in cell.items()}


def missing_truth(folder: Path) -> str:
    """What the labels of a variant's split lack, so that no score of them means anything; "" if they lack nothing.

    Args:
        folder: holds <split>/ with the records.
    """
    for split, files in record_files(folder).items():
        text = load_records(files[0]).missing_truth()
        if text:
            return f"split {split}: {text}"
    return ""


def class_objects(folder: Path) -> dict[str, int]:
    """How many objects, or images, of each class a variant's split has; empty for masks.

    Args:
        folder: as in `missing_truth`.
    """
    files = next(iter(record_files(folder).values()))
    records: Any = load_records(files[0])
    objects: dict[str, int] = records.class_objects()
    return objects


def is_trained(variant: str, params: Params) -> bool:
    """Whether another seed of a training would give other scores: objectives and retrained task networks."""
    arm = parse_arm(variant)
    return arm.retrained if arm else variant in params.objectives and variant != FROZEN


def shared_resamples(params: Params, image_ids: Sequence[str], groups: Mapping[str, str] = NO_GROUPS) -> Resamples:
    """The resamples of N images: the same for everything about these images."""
    labels = group_labels(image_ids, groups)
    return Resamples.draw(labels, params.statistics.resamples, seed_for(params.seed, "bootstrap"))


def _of_split(by_split: Mapping[str, list[Scores]], split: str) -> list[Scores]:
    """The trainings' scores of one split; clean images have only one split, the same for each copy."""
    return by_split[split] if split in by_split else next(iter(by_split.values()))


def read_trainings(folder: Path, load: Callable[[Path], Loaded]) -> dict[str, list[Loaded]]:
    """What `load` makes of the records of each split, one for each training."""
    return {split: [load(file) for file in files] for split, files in record_files(folder).items()}
