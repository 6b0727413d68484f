"""What to do with bad data: everything is found first, then listed in one table, then refused or left out."""

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data.dataset import LABELS, DatasetError, DatasetInfo, write_info
from data.resizing import shrink
from data.samples import Fault, FaultError, remove_sample, write_sample
from data.sources import Source, load_source
from pipeline.running.atomic_outputs import WORK, replacing_folder
from pipeline.running.execution import in_parallel
from pipeline.running.progress import progress
from pipeline.settings.data import Data
from pipeline.settings.params import read_yaml

COLUMNS = ("file", "fault", "action")
FAULTS_FILE = "faults.csv"
SHOWN = 20
CONVERTED, LEFT_OUT, REFUSED = "converted", "left out", "none: to be mended"


def refuse(faults: Sequence[Fault], table: Path, root: Path, advice: str) -> DatasetError:
    """Write the table, print its beginning and return the error to raise."""
    bad = [fault for fault in faults if not fault.converted]
    write_table(table, faults, REFUSED)
    for fault in bad[:SHOWN]:
        print(printable(f"{fault.file}: {fault.fault}"))
    if len(bad) > SHOWN:
        print(f"... and {len(bad) - SHOWN} more")
    return DatasetError(f"{root}: {len(bad)} faults ({kinds(bad)}), all listed in {table}; {advice}")


def write_table(path: Path, faults: Iterable[Fault], action: str) -> None:
    """Write the faults as a table; `action` is what was done about those that could not be put right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for fault in sorted(faults, key=lambda fault: (fault.file, fault.fault)):
            writer.writerow((fault.file, fault.fault, CONVERTED if fault.converted else action))


def printable(text: str) -> str:
    """One line that any terminal takes; names of files and entries of a JSON file can be any bytes."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())


def kinds(faults: Iterable[Fault]) -> str:
    """How many there are of each kind, the most frequent first."""
    counts = Counter(fault.fault.partition(":")[0] for fault in faults)
    return ", ".join(f"{count} x {kind}" for kind, count in counts.most_common())


CHUNK = 16  # images for each message to another process
KEPT_FIRST = ("test", "val", "train")  # a picture in two splits is taken from the training images


@dataclass(frozen=True)
class Written:
    """One sample that was written, with a digest of its pixels, or left out: then the digest is None."""

    split: str
    name: str
    digest: str | None
    faults: tuple[Fault, ...]


def read_dataset(data: Data, seed: int, out: Path, tasks: Sequence[str] = (), named: Path | None = None) -> None:
    """Write the dataset that a section `data` describes to `out`, with a table of what was wrong with the files.

    Args:
        data: the section.
        seed: of drawn splits and scenes.
        out: the folder to write.
        tasks: those to be trained on these data, which must have labels for them and the splits train and val or
            test. The stages that train them ask again; asked here, it comes out before anything is read.
        named: the folder that the user finds the table in, where the caller moves it there.

    Raises:
        DatasetError: the files are not as expected, a task has no labels, or a split is empty; or, where
            `data.faults` is "error", any file is bad: all of them are in work/faults.csv then.
    """
    source = load_source(data.source)(Path(data.root), _settings(data), seed)
    smaller = {} if data.longest_side is None else {"longest_side": data.longest_side}
    info = DatasetInfo(source.name, source.classes, {}, source.description | smaller)
    for task in LABELS:
        if task in tasks:  # one of another name says itself which labels it is judged by
            info.classes_of(task, task)
    ids = source.split_ids()
    if tasks and ("train" not in ids or len(ids) < 2):
        raise DatasetError(f"{data.root}: expected the splits train and val or test; found {', '.join(ids)}")
    with replacing_folder(out) as folder:
        written = _write_all(source, ids, folder, data.longest_side)
        twins = _twins(written)
        found = [*source.faults(), *(fault for entry in written for fault in entry.faults), *twins.values()]
        kept = {
            split: sum(w.split == split and w.digest is not None and (split, w.name) not in twins for w in written)
            for split in ids
        }
        _judge(data, found, kept)
        for split, name in twins:
            remove_sample(folder, split, name)
        write_info(folder, replace(info, splits=kept))
        write_table(folder / FAULTS_FILE, found, LEFT_OUT)
    if found:
        print(_summary(found, (named or out) / FAULTS_FILE))


def _settings(data: Data) -> dict[str, Any]:
    """The source's section. Sources know no YAML: a project file in YAML is read for them."""
    settings = data.settings | {"trust_paths": data.trust_paths}
    if "project" in settings:
        settings["content"] = read_yaml(Path(data.root) / settings["project"], "see data.root and data.yolo.project")
    return settings


def _write_all(source: Source, ids: dict[str, list[str]], folder: Path, longest: int | None) -> list[Written]:
    """Read and write every sample once, in parallel processes; in the order of the ids."""
    chunks = [
        (split, names[start : start + CHUNK]) for split, names in ids.items() for start in range(0, len(names), CHUNK)
    ]
    results = in_parallel(
        _write, ((source.part(split, names), split, names, folder, longest) for split, names in chunks)
    )
    written: list[Written] = []
    with progress(sum(map(len, ids.values())), "prepare", "image") as bar:
        for chunk in results:
            written.extend(chunk)
            bar.update(len(chunk))
    return written


def _write(source: Source, split: str, names: Sequence[str], folder: Path, longest: int | None) -> list[Written]:
    return [_write_one(source, split, name, folder, longest) for name in names]


def _write_one(source: Source, split: str, name: str, folder: Path, longest: int | None) -> Written:
    try:
        sample = source.sample(split, name)
    except FaultError as error:
        return Written(split, name, None, error.faults)
    if longest is not None:
        sample = shrink(sample, longest)
    write_sample(folder, sample)
    digest = hashlib.sha256(repr(sample.image.shape).encode() + sample.image.tobytes()).hexdigest()
    return Written(split, name, digest, sample.conversions)


def _twins(written: Sequence[Written]) -> dict[tuple[str, str], Fault]:
    """The same pixels in several splits; all but those of the split that is kept first are to be left out."""
    first: dict[str, Written] = {}
    twins = {}
    for entry in sorted(written, key=lambda entry: KEPT_FIRST.index(entry.split)):
        if entry.digest is not None:
            other = first.setdefault(entry.digest, entry)
            if other.split != entry.split:
                text = f"same picture in two splits: {other.split}/{other.name} has the same pixels"
                twins[entry.split, entry.name] = Fault(f"{entry.split}/{entry.name}", text)
    return twins


def _judge(data: Data, found: Sequence[Fault], kept: dict[str, int]) -> None:
    """Raise unless the dataset may be used."""
    empty = [Fault(split, "empty split: no usable image is left") for split, count in kept.items() if not count]
    if empty or (data.faults == "error" and any(not fault.converted for fault in found)):
        advice = "mend the files, or set data.faults to skip to leave these images out"
        if data.faults == "skip":
            advice = "an empty split cannot be left out"
        raise refuse([*found, *empty], WORK / FAULTS_FILE, Path(data.root), advice)


def _summary(found: Sequence[Fault], table: Path) -> str:
    lines = []
    for action, chosen in (
        (CONVERTED, [fault for fault in found if fault.converted]),
        (LEFT_OUT, [fault for fault in found if not fault.converted]),
    ):
        if chosen:
            lines.append(f"prepare: {action}: {kinds(chosen)}")
    return "\n".join([*lines, f"prepare: all of them are in {table}"])
