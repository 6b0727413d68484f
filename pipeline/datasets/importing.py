"""Importing a canonical dataset from a data source.

All files are read first. Then the faulty ones are reported together in faults.csv, or left out.
"""

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from data.dataset import DatasetInfo, write_info
from data.labels import LABELS, DatasetError
from data.samples import Fault, FaultError, remove_sample, shrink, write_sample
from data.sources import Source, load_source
from pipeline.datasets.class_counts import (
    COUNTS_FILE,
    ClassCounts,
    count_classes,
    describe_counts,
    total_counts,
    write_counts,
)
from pipeline.running.atomic_outputs import WORK, replacing_folder
from pipeline.running.execution import in_parallel
from pipeline.running.progress import progress
from pipeline.settings.data import Data
from pipeline.settings.params import read_yaml

FAULTS_FILE = "faults.csv"
FAULT_COLUMNS = ("file", "fault", "action")
CONVERTED, LEFT_OUT, REFUSED = "converted", "left out", "none: repair the file"  # values of the column `action`
LABEL_LEFT_OUT, NOT_USED = "label left out", "not used"
FILES_TABLE = "files.csv"
FILE_COLUMNS = ("split", "id", "file")
LISTED_FAULTS = 20  # on the terminal
CHUNK = 16  # images for each message to another process
KEPT_FIRST = ("test", "val", "train")  # an image in two splits stays in the first of these


@dataclass(frozen=True)
class Written:
    """A sample that was read.

    Attributes:
        digest: of its pixels; None if it was left out.
        faults: what was wrong with its files.
        file: its image file; None if it was drawn.
        counts: its objects and pixels by class.
    """

    split: str
    image_id: str
    digest: str | None
    faults: tuple[Fault, ...]
    file: Path | None = None
    counts: ClassCounts = field(default_factory=Counter)


def import_dataset(data: Data, seed: int, out: Path, tasks: Sequence[str] = (), shown_as: Path | None = None) -> None:
    """Write the dataset that a section `data` describes into a folder, with a table of the faults of its files.

    Args:
        data: the section of params.yaml.
        seed: of random splits and scenes.
        out: the folder to write.
        tasks: the tasks that are trained on the dataset. It must have labels for them and the splits train and val or
            test. This check comes before any file is read.
        shown_as: the folder that messages name instead of `out`, if the caller moves the table there.

    Raises:
        DatasetError: the files are not as expected, a task has no labels, or a split is empty; or, if
            `data.faults` is "error", a file is faulty. work/faults.csv lists all faults.
    """
    source = open_source(data, seed)
    smaller = {} if data.longest_side is None else {"longest_side": data.longest_side}
    info = DatasetInfo(source.name, source.classes, {}, source.description | smaller)
    for task in LABELS:
        if task in tasks:  # other tasks check their labels when they are trained
            info.classes_of(task, task)
    ids = source.split_ids()
    if tasks and ("train" not in ids or len(ids) < 2):
        raise DatasetError(
            f"{data.root}: expected the splits train and val or test, got {', '.join(ids)}. Correct data.{data.source}."
        )
    with replacing_folder(out) as folder:
        written = _write_all(source, ids, folder, data)
        twins = _find_twins(written)
        faults = [
            *source.faults(),
            *source.notes(),
            *(fault for sample in written for fault in sample.faults),
            *twins.values(),
        ]
        used = [sample for sample in written if sample.digest and (sample.split, sample.image_id) not in twins]
        counts = {split: sum(sample.split == split for sample in used) for split in ids}
        _refuse_faults(data, faults, counts)
        for split, image_id in twins:
            remove_sample(folder, split, image_id)
        write_info(folder, replace(info, splits=counts, groups=_groups_of(source, used)))
        label_action = LABEL_LEFT_OUT if data.faults == "skip-labels" else LEFT_OUT
        write_table(folder / FAULTS_FILE, faults, LEFT_OUT, label_action)
        write_files(folder / FILES_TABLE, used, Path(data.root))
        class_counts = {split: total_counts(s.counts for s in used if s.split == split) for split in ids}
        write_counts(folder / COUNTS_FILE, info.classes, class_counts)
    if faults:
        print(summarise(faults, (shown_as or out) / FAULTS_FILE, label_action))
    print("\n".join(describe_counts(info.classes, class_counts, f"data.{data.source}")))
    divided = source.divided_groups()
    if divided:
        print(warn_of_divided(divided, f"data.{data.source}.split"))


def open_source(data: Data, seed: int) -> Source:
    """The source that a section `data` describes, before any image is read.

    Raises:
        DatasetError: a setting or a file is not valid.
    """
    hint = f"Correct data.root or data.{data.source}."
    return load_source(data.source)(
        Path(data.root),
        data.settings,
        seed,
        trust_paths=data.trust_paths,
        read_yaml=partial(read_yaml, hint=hint),
    )


def _write_all(source: Source, ids: dict[str, list[str]], folder: Path, data: Data) -> list[Written]:
    """Read and write every sample in parallel processes. Returns the results in the order of the ids."""
    jobs = []
    for split, image_ids in ids.items():
        for start in range(0, len(image_ids), CHUNK):
            chunk = image_ids[start : start + CHUNK]
            part = source.part(split, chunk)
            jobs.append((part, split, chunk, folder, data.longest_side, data.faults == "skip-labels"))
    written: list[Written] = []
    with progress(sum(map(len, ids.values())), "prepare", "image") as bar:
        for samples in in_parallel(_write_chunk, jobs):
            written.extend(samples)
            bar.update(len(samples))
    return written


def _write_chunk(
    source: Source, split: str, image_ids: Sequence[str], folder: Path, longest_side: int | None, skip_labels: bool
) -> list[Written]:
    return [_write_sample(source, split, image_id, folder, longest_side, skip_labels) for image_id in image_ids]


def _write_sample(
    source: Source, split: str, image_id: str, folder: Path, longest_side: int | None, skip_labels: bool
) -> Written:
    faults: tuple[Fault, ...] = ()
    try:
        sample = source.sample(split, image_id)
    except FaultError as error:
        if error.sample is None or not skip_labels:
            return Written(split, image_id, None, error.faults)
        sample, faults = error.sample, error.faults
    if longest_side is not None:
        sample = shrink(sample, longest_side)
    write_sample(folder, sample)
    digest = hashlib.sha256(repr(sample.image.shape).encode() + sample.image.tobytes()).hexdigest()
    return Written(split, image_id, digest, (*sample.conversions, *faults), sample.origin, count_classes(sample))


def _groups_of(source: Source, used: Sequence[Written]) -> dict[str, dict[str, str]]:
    """For each split the groups of the images that are used."""
    groups = source.groups()
    kept: dict[str, dict[str, str]] = {}
    for sample in used:
        group = groups.get(sample.split, {}).get(sample.image_id)
        if group is not None:
            kept.setdefault(sample.split, {})[sample.image_id] = group
    return kept


def _find_twins(written: Sequence[Written]) -> dict[tuple[str, str], Fault]:
    """The images to leave out, by split and id: another split, which comes first in KEPT_FIRST, has the same pixels."""
    first: dict[str, Written] = {}
    twins = {}
    for sample in sorted(written, key=lambda sample: KEPT_FIRST.index(sample.split)):
        if sample.digest is not None:
            kept = first.setdefault(sample.digest, sample)
            if kept.split != sample.split:
                text = f"same picture in two splits: {kept.split}/{kept.image_id} has the same pixels"
                twins[sample.split, sample.image_id] = Fault(f"{sample.split}/{sample.image_id}", text)
    return twins


def _refuse_faults(data: Data, faults: Sequence[Fault], counts: dict[str, int]) -> None:
    """Raise an error if a split is empty, or if there are faults and `data.faults` is "error"."""
    empty = [Fault(split, "empty split: no usable image is left") for split, count in counts.items() if not count]
    if empty or (data.faults == "error" and any(fault.is_bad for fault in faults)):
        advice = "Repair the files, or set data.faults to skip to leave these images out."
        if data.faults != "error":
            advice = "An empty split cannot be left out: add usable images to it."
        elif all(fault.effect != "image" for fault in faults):
            advice = f"{advice.removesuffix('.')}, or to skip-labels to leave out these labels alone."
        raise faults_error([*faults, *empty], WORK / FAULTS_FILE, Path(data.root), advice)


def faults_error(faults: Sequence[Fault], table: Path, root: Path, advice: str) -> DatasetError:
    """The error about faulty files. Writes faults.csv, and prints its first rows."""
    bad = [fault for fault in faults if fault.is_bad]
    write_table(table, faults, REFUSED)
    for fault in bad[:LISTED_FAULTS]:
        print(_printable(f"{fault.file}: {fault.fault}"))
    if len(bad) > LISTED_FAULTS:
        print(f"... and {len(bad) - LISTED_FAULTS} more")
    return DatasetError(f"{root}: {len(bad)} faults ({count_kinds(bad)}), all listed in {table}. {advice}")


def write_table(path: Path, faults: Iterable[Fault], action: str, label_action: str | None = None) -> None:
    """Write faults.csv. `action` is what was done about bad images, `label_action` about single bad labels."""
    actions = {"image": action, "label": label_action or action, "converted": CONVERTED, "note": NOT_USED}
    rows = sorted((fault.file, fault.fault, actions[fault.effect]) for fault in faults)
    _write_csv(path, FAULT_COLUMNS, rows)


def write_files(path: Path, used: Sequence[Written], root: Path) -> None:
    """Write files.csv: the image file of each image, relative to `root`; without rows if the images were drawn."""
    rows = [(s.split, s.image_id, Path(os.path.relpath(s.file, root)).as_posix()) for s in used if s.file is not None]
    _write_csv(path, FILE_COLUMNS, rows)


def read_files(folder: Path) -> dict[tuple[str, str], str]:
    """The image file of each image of a dataset, by split and id, relative to data.root; empty without files.csv."""
    path = folder / FILES_TABLE
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {(row["split"], row["id"]): row["file"] for row in csv.DictReader(file)}


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def summarise(faults: Sequence[Fault], table: Path, label_action: str = LEFT_OUT) -> str:
    """A summary for the terminal: how many files were converted, left out and not used, and which table lists them."""
    actions = {"converted": CONVERTED, "image": LEFT_OUT, "label": label_action, "note": NOT_USED}
    lines = []
    for action in dict.fromkeys(actions.values()):
        chosen = [fault for fault in faults if actions[fault.effect] == action]
        if chosen:
            lines.append(f"prepare: {action}: {count_kinds(chosen)}")
    return "\n".join([*lines, f"prepare: all of them are in {table}"])


def count_kinds(faults: Iterable[Fault]) -> str:
    """How many faults there are of each kind, the most frequent first."""
    counts = Counter(fault.fault.partition(":")[0] for fault in faults)
    return ", ".join(f"{count} x {kind}" for kind, count in counts.most_common())


def warn_of_divided(divided: Mapping[str, Sequence[str]], key: str) -> str:
    """A warning that the files put images of one group into several splits.

    Args:
        divided: these groups, and the splits of each.
        key: the key of params.yaml that draws splits of whole groups.
    """
    group, splits = next(iter(divided.items()))
    return _printable(
        f"prepare: warning: groups with images in several splits: {len(divided)}, the first is {group!r} in "
        f"{' and '.join(splits)}. Results may be too good. Set {key} to draw splits of whole groups."
    )


def _printable(text: str) -> str:
    """The text in one line of valid UTF-8. File names and entries of a JSON file can be any bytes."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())
