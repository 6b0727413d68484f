"""Data from outside as a canonical dataset, or a table of all that is wrong with them. Not a stage.

Everything is read before anything is decided: bad files are found all at once, and a dataset that lacks them, or
none at all, is what remains.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data.manifest import LABELS, DatasetError, DatasetInfo, Fault, FaultError, remove_sample, write_info, write_sample
from data.shrinking import shrink
from data.sources import Source, load_source
from pipeline import faults, runtime
from pipeline.engine import in_parallel
from pipeline.params import read_yaml
from pipeline.settings.data import Data
from pipeline.training.loop import progress

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
    with runtime.replacing_folder(out) as folder:
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
        faults.write_table(folder / faults.FAULTS_FILE, found, faults.LEFT_OUT)
    if found:
        print(_summary(found, (named or out) / faults.FAULTS_FILE))


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
        raise faults.refuse([*found, *empty], runtime.WORK / faults.FAULTS_FILE, Path(data.root), advice)


def _summary(found: Sequence[Fault], table: Path) -> str:
    lines = []
    for action, chosen in (
        (faults.CONVERTED, [fault for fault in found if fault.converted]),
        (faults.LEFT_OUT, [fault for fault in found if not fault.converted]),
    ):
        if chosen:
            lines.append(f"prepare: {action}: {faults.kinds(chosen)}")
    return "\n".join([*lines, f"prepare: all of them are in {table}"])
