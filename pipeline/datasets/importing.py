"""A canonical dataset from a data source. All faults are found first, then refused together or left out."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from data.dataset import DatasetInfo, write_info
from data.labels import LABELS, DatasetError
from data.samples import Fault, FaultError, remove_sample, shrink, write_sample
from data.sources import Source, load_source
from pipeline.datasets.faults import FAULTS_FILE, LEFT_OUT, refuse, summarise, write_table
from pipeline.running.atomic_outputs import WORK, replacing_folder
from pipeline.running.execution import in_parallel
from pipeline.running.progress import progress
from pipeline.settings.data import Data
from pipeline.settings.params import read_yaml

CHUNK = 16  # images for each message to another process
KEPT_FIRST = ("test", "val", "train")  # an image in two splits stays in the first of these


@dataclass(frozen=True)
class Written:
    """One sample that was written, with a digest of its pixels, or left out: then the digest is None."""

    split: str
    image_id: str
    digest: str | None
    faults: tuple[Fault, ...]


def import_dataset(data: Data, seed: int, out: Path, tasks: Sequence[str] = (), shown_as: Path | None = None) -> None:
    """Write the dataset that a section `data` describes to `out`, with a table of what was wrong with the files.

    Args:
        data: the section.
        seed: of drawn splits and scenes.
        out: the folder to write.
        tasks: those to be trained on these data, which must have labels for them and the splits train and val or
            test. The stages that train them check again; here, the error comes before anything is read.
        shown_as: the folder that messages name instead of `out`, if the caller moves the table there.

    Raises:
        DatasetError: the files are not as expected, a task has no labels, or a split is empty; or, if
            `data.faults` is "error", any file is bad: all of them are in work/faults.csv then.
    """
    source = _open_source(data, seed)
    smaller = {} if data.longest_side is None else {"longest_side": data.longest_side}
    info = DatasetInfo(source.name, source.classes, {}, source.description | smaller)
    for task in LABELS:
        if task in tasks:  # a task of another name says itself which labels it is scored with
            info.classes_of(task, task)
    ids = source.split_ids()
    if tasks and ("train" not in ids or len(ids) < 2):
        raise DatasetError(f"{data.root}: expected the splits train and val or test, got {', '.join(ids)}")
    with replacing_folder(out) as folder:
        written = _write_all(source, ids, folder, data.longest_side)
        twins = _find_twins(written)
        faults = [*source.faults(), *(fault for sample in written for fault in sample.faults), *twins.values()]
        kept = Counter(w.split for w in written if w.digest is not None and (w.split, w.image_id) not in twins)
        counts = {split: kept[split] for split in ids}
        _refuse_faults(data, faults, counts)
        for split, image_id in twins:
            remove_sample(folder, split, image_id)
        write_info(folder, replace(info, splits=counts))
        write_table(folder / FAULTS_FILE, faults, LEFT_OUT)
    if faults:
        print(summarise(faults, (shown_as or out) / FAULTS_FILE))


def _open_source(data: Data, seed: int) -> Source:
    hint = f"see data.root and data.{data.source}"
    return load_source(data.source)(
        Path(data.root),
        data.settings,
        seed,
        trust_paths=data.trust_paths,
        read_yaml=partial(read_yaml, hint=hint),
    )


def _write_all(source: Source, ids: dict[str, list[str]], folder: Path, longest_side: int | None) -> list[Written]:
    """Read and write every sample once, in parallel processes; in the order of the ids."""
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
    """The same pixels in several splits; all but those of the split that is kept first are to be left out."""
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
    """Raise unless the dataset may be used."""
    empty = [Fault(split, "empty split: no usable image is left") for split, count in counts.items() if not count]
    if empty or (data.faults == "error" and any(not fault.converted for fault in faults)):
        advice = "repair the files, or set data.faults to skip to leave these images out"
        if data.faults == "skip":
            advice = "an empty split cannot be left out"
        raise refuse([*faults, *empty], WORK / FAULTS_FILE, Path(data.root), advice)
