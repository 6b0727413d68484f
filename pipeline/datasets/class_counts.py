"""How often each class occurs in a dataset: objects, pixels and images by split, for people and class_counts.csv."""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.labels import IGNORE_INDEX
from data.samples import Sample

COUNTS_FILE = "class_counts.csv"
COLUMNS = ("labels", "class", "unit", "split", "count")
UNITS = {"detection": "object", "segmentation": "pixel", "instance-segmentation": "object", "classification": "image"}
SHOWN_CLASSES = 30  # of each kind of labels, on the terminal
IGNORED = "(ignored)"
ClassCounts = Counter[tuple[str, int]]  # by kind of labels and class index


def count_classes(sample: Sample) -> ClassCounts:
    """The objects, pixels and instances of each class in one image. Crowds are not counted; ignored pixels are."""
    counts: ClassCounts = Counter()
    for kind, indices in (
        ("detection", None if sample.boxes is None else sample.boxes[:, 0]),
        ("segmentation", sample.mask),
        ("instance-segmentation", sample.instances and np.array([i.category for i in sample.instances if not i.crowd])),
        ("classification", None if sample.category is None else np.array([sample.category])),
    ):
        if indices is not None and len(indices):
            found = np.bincount(np.asarray(indices, dtype=np.int64).ravel())
            counts.update({(kind, int(index)): int(found[index]) for index in np.flatnonzero(found)})
    return counts


def total_counts(images: Iterable[ClassCounts]) -> ClassCounts:
    """The counts of all images together."""
    total: ClassCounts = Counter()
    for counts in images:
        total.update(counts)
    return total


def write_counts(path: Path, classes: Mapping[str, Sequence[str]], counts: Mapping[str, ClassCounts]) -> None:
    """Write class_counts.csv.

    Args:
        path: the file.
        classes: class names by kind of labels.
        counts: by split.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for kind, index, name in _rows(classes):
            writer.writerows((kind, name, UNITS[kind], split, counts[split][kind, index]) for split in counts)


def describe_counts(classes: Mapping[str, Sequence[str]], counts: Mapping[str, ClassCounts], key: str) -> list[str]:
    """Lines for the terminal: a table of the counts, and a warning for each kind of labels with classes that lack them.

    Args:
        classes: class names by kind of labels.
        counts: by split.
        key: the section of params.yaml that names the classes.
    """
    kinds = [kind for kind in classes if not _is_repeated(kind, classes)]
    return [*_table(classes, counts), *(line for kind in kinds for line in _warnings(kind, classes[kind], counts, key))]


def _is_repeated(kind: str, classes: Mapping[str, Sequence[str]]) -> bool:
    """Whether the objects of a kind of labels are those of another kind."""
    return kind == "instance-segmentation" and "detection" in classes


def _rows(classes: Mapping[str, Sequence[str]]) -> Iterable[tuple[str, int, str]]:
    for kind in UNITS:
        names = classes.get(kind, [])
        yield from ((kind, index, name) for index, name in enumerate(names))
        if kind == "segmentation" and names:
            yield kind, IGNORE_INDEX, IGNORED


def _table(classes: Mapping[str, Sequence[str]], counts: Mapping[str, ClassCounts]) -> list[str]:
    shown = [
        (f"{UNITS[kind]}s", name, *(str(counts[split][kind, index]) for split in counts))
        for kind, index, name in _rows(classes)
        if index < SHOWN_CLASSES or index == IGNORE_INDEX
        if not _is_repeated(kind, classes)
    ]
    if not shown:
        return []
    rows = [("", "class", *counts), *shown]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["prepare: how often each class occurs:"]
    for row in rows:
        numbers = "  ".join(cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True))
        lines.append(f"  {row[0].ljust(widths[0])}  {row[1].ljust(widths[1])}  {numbers}".rstrip())
    if any(len(names) > SHOWN_CLASSES for names in classes.values()):
        lines.append(f"  all classes are in {COUNTS_FILE}")
    return lines


def _warnings(kind: str, names: Sequence[str], counts: Mapping[str, ClassCounts], key: str) -> Iterable[str]:
    unit = UNITS[kind]
    totals = {split: _numbers(kind, len(names), counts[split]) for split in counts}
    never = np.sum(list(totals.values()), axis=0) == 0 if totals else np.zeros(len(names), dtype=bool)
    if never.any():
        ignored = sum(counts[split][kind, IGNORE_INDEX] for split in counts)
        text = f"prepare: warning: {key}: no {unit} of {_listed(names, never)} in any split"
        if kind == "segmentation" and ignored:
            share = ignored / sum(count for split in counts for (k, _), count in counts[split].items() if k == kind)
            text += f", and {share:.1%} of all pixels are ignored"
        yield f"{text}. Check the classes, the map and the ignored values, or remove the class."
    for split, numbers in totals.items():
        missing = (numbers == 0) & ~never
        if missing.any():
            yield f"prepare: warning: {key}: no {unit} of {_listed(names, missing)} in {split}."


def _numbers(kind: str, classes: int, counts: ClassCounts) -> NDArray[np.int64]:
    return np.array([counts[kind, index] for index in range(classes)], dtype=np.int64)


def _listed(names: Sequence[str], chosen: NDArray[np.bool_]) -> str:
    found = [repr(name) for name, is_chosen in zip(names, chosen, strict=True) if is_chosen]
    more = f" and {len(found) - SHOWN_CLASSES} more classes" if len(found) > SHOWN_CLASSES else ""
    return ", ".join(found[:SHOWN_CLASSES]) + more
