"""Importing a canonical dataset from a data source.

All files are read first. Then the faulty ones are reported together in faults.csv, or left out.
"""

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from data.dataset import DatasetInfo, write_info
from data.labels import LABELS, DatasetError
from data.samples import Fault, FaultError, remove_sample, shrink, write_sample
from data.sources import Source, load_source
from pipeline.running.atomic_outputs import WORK, replacing_folder
from pipeline.running.execution import in_parallel
from pipeline.running.progress import progress
from pipeline.settings.data import Data
from pipeline.settings.params import read_yaml

FAULTS_FILE = "faults.csv"
FAULT_COLUMNS = ("file", "fault", "action")
CONVERTED, LEFT_OUT, REFUSED = "converted", "left out", "none: repair the file"  # values of the column `action`
LISTED_FAULTS = 20  # on the terminal
CHUNK = 16  # images for each message to another process
KEPT_FIRST = ("test", "val", "train")  # an image in two splits stays in the first of these


@dataclass(frozen=True)
class Written:
    """A sample that was read.

    Attributes:
        digest: of its pixels; None if it was left out.
        faults: what was wrong with its files.
    """

    split: str
    image_id: str
    digest: str | None
    faults: tuple[Fault, ...]


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
    source = _open_source(data, seed)
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
        written = _write_all(source, ids, folder, data.longest_side)
        twins = _find_twins(written)
        faults = [*source.faults(), *(fault for sample in written for fault in sample.faults), *twins.values()]
        kept = Counter(
            sample.split
            for sample in written
            if sample.digest is not None and (sample.split, sample.image_id) not in twins
        )
        counts = {split: kept[split] for split in ids}
        _refuse_faults(data, faults, counts)
        for split, image_id in twins:
            remove_sample(folder, split, image_id)
        write_info(folder, replace(info, splits=counts))
        write_table(folder / FAULTS_FILE, faults, LEFT_OUT)
    if faults:
        print(summarise(faults, (shown_as or out) / FAULTS_FILE))


def _open_source(data: Data, seed: int) -> Source:
    hint = f"Correct data.root or data.{data.source}."
    return load_source(data.source)(
        Path(data.root),
        data.settings,
        seed,
        trust_paths=data.trust_paths,
        read_yaml=partial(read_yaml, hint=hint),
    )


def _write_all(source: Source, ids: dict[str, list[str]], folder: Path, longest_side: int | None) -> list[Written]:
    """Read and write every sample in parallel processes. Returns the results in the order of the ids."""
    jobs = []
    for split, image_ids in ids.items():
        for start in range(0, len(image_ids), CHUNK):
            chunk = image_ids[start : start + CHUNK]
            jobs.append((source.part(split, chunk), split, chunk, folder, longest_side))
    written: list[Written] = []
    with progress(sum(map(len, ids.values())), "prepare", "image") as bar:
        for samples in in_parallel(_write_chunk, jobs):
            written.extend(samples)
            bar.update(len(samples))
    return written


def _write_chunk(
    source: Source, split: str, image_ids: Sequence[str], folder: Path, longest_side: int | None
) -> list[Written]:
    return [_write_sample(source, split, image_id, folder, longest_side) for image_id in image_ids]


def _write_sample(source: Source, split: str, image_id: str, folder: Path, longest_side: int | None) -> Written:
    try:
        sample = source.sample(split, image_id)
    except FaultError as error:
        return Written(split, image_id, None, error.faults)
    if longest_side is not None:
        sample = shrink(sample, longest_side)
    write_sample(folder, sample)
    digest = hashlib.sha256(repr(sample.image.shape).encode() + sample.image.tobytes()).hexdigest()
    return Written(split, image_id, digest, sample.conversions)


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
    if empty or (data.faults == "error" and any(not fault.converted for fault in faults)):
        advice = "Repair the files, or set data.faults to skip to leave these images out."
        if data.faults == "skip":
            advice = "An empty split cannot be left out: add usable images to it."
        raise faults_error([*faults, *empty], WORK / FAULTS_FILE, Path(data.root), advice)


def faults_error(faults: Sequence[Fault], table: Path, root: Path, advice: str) -> DatasetError:
    """The error about faulty files. Writes faults.csv, and prints its first rows."""
    bad = [fault for fault in faults if not fault.converted]
    write_table(table, faults, REFUSED)
    for fault in bad[:LISTED_FAULTS]:
        print(_printable(f"{fault.file}: {fault.fault}"))
    if len(bad) > LISTED_FAULTS:
        print(f"... and {len(bad) - LISTED_FAULTS} more")
    return DatasetError(f"{root}: {len(bad)} faults ({count_kinds(bad)}), all listed in {table}. {advice}")


def write_table(path: Path, faults: Iterable[Fault], action: str) -> None:
    """Write faults.csv. `action` is what was done about the files that were not converted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FAULT_COLUMNS)
        for fault in sorted(faults, key=lambda fault: (fault.file, fault.fault)):
            writer.writerow((fault.file, fault.fault, CONVERTED if fault.converted else action))


def summarise(faults: Sequence[Fault], table: Path) -> str:
    """A summary for the terminal: how many files were converted and left out, and which table lists them."""
    lines = []
    for action, is_converted in ((CONVERTED, True), (LEFT_OUT, False)):
        chosen = [fault for fault in faults if fault.converted == is_converted]
        if chosen:
            lines.append(f"prepare: {action}: {count_kinds(chosen)}")
    return "\n".join([*lines, f"prepare: all of them are in {table}"])


def count_kinds(faults: Iterable[Fault]) -> str:
    """How many faults there are of each kind, the most frequent first."""
    counts = Counter(fault.fault.partition(":")[0] for fault in faults)
    return ", ".join(f"{count} x {kind}" for kind, count in counts.most_common())


def _printable(text: str) -> str:
    """The text in one line of valid UTF-8. File names and entries of a JSON file can be any bytes."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())
