"""Metrics: how predictions and images are scored. A plug-in is a module with a line in METRICS.

Scores are stored per image in records, from which a metric is computed on any resample of the images.
"""

from importlib import import_module
from pathlib import Path
from typing import Any, cast

from pipeline.metrics.records import MeanRecords, Records, RecordsError, Scores, read_arrays
from pipeline.metrics.scoring import Metric, ObjectScoring, Scoring, main_of
from pipeline.running.atomic_outputs import ADVICE

__all__ = [
    "METRICS",
    "QUALITY",
    "MeanRecords",
    "Metric",
    "ObjectScoring",
    "Records",
    "RecordsError",
    "Scores",
    "Scoring",
    "find_metric",
    "get_scoring",
    "load_records",
    "main_metric",
    "main_of",
    "task_metrics",
]

QUALITY = "quality"  # image quality, which the tables list like a task

METRICS = {
    "detection": ".detection:DetectionScoring",
    "instance-segmentation": ".instance_segmentation:InstanceScoring",
    "segmentation": ".segmentation:SegmentationScoring",
    "classification": ".classification:ClassificationScoring",
    "quality": ".image_quality:ImageQuality",
}

RECORDS = {  # the entry `kind` of a file of records: its class
    "detection": ".detection_records:DetectionRecords",
    "segmentation": ".segmentation:SegmentationRecords",
    "classification": ".classification:ClassificationRecords",
    "mean": ".records:MeanRecords",
}


def get_scoring(task: str) -> type[Scoring[Any]]:
    """The entry of METRICS for a task: how its predictions are stored, read, scored and drawn.

    The entry for "quality" has metrics only.

    Raises:
        KeyError: there is none.
    """
    return cast(type[Scoring[Any]], _load(METRICS[task]))


def task_metrics(task: str) -> tuple[Metric, ...]:
    """The metrics of a task or of "quality", in the order of the tables."""
    return get_scoring(task).metrics


def main_metric(task: str) -> Metric:
    """The metric of a task or of "quality" that summaries show."""
    return main_of(task_metrics(task))


def find_metric(name: str) -> Metric:
    """The metric of a name, of any task or of its classes or images; a metric with the defaults if none declares it."""
    for task in METRICS:
        scoring = get_scoring(task)
        for metric in (*scoring.metrics, *scoring.class_metrics, *scoring.image_metrics):
            if metric.name == name:
                return metric
    return Metric(name)


def load_records(path: Path) -> Records:
    """Read records of any kind.

    Raises:
        RecordsError: the file is missing, damaged, or holds no records of a known kind.
    """
    kind = str(read_arrays(path)["kind"])
    if kind not in RECORDS:
        raise RecordsError(f"{path}: unknown records {kind!r}, expected {', '.join(RECORDS)}. {ADVICE}")
    try:
        return cast(Records, _load(RECORDS[kind]).load(path))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        if isinstance(error, RecordsError):
            raise
        raise RecordsError(f"{path}: {kind} records of another version, or damaged ({error}). {ADVICE}") from error


def _load(entry: str) -> Any:
    """The class behind an entry of a table; its module is imported only now."""
    module, attribute = entry.split(":")
    return getattr(import_module(module, __package__), attribute)
