"""Which data a row of the comparison used, with digests of the files. Not a stage."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from data.manifest import Dataset
from pipeline.tracking_rows import DataUsed


@cache
def data_digest(folder: Path) -> str:
    """A digest of the names and contents of all files below a folder, whatever their order on disk."""
    digest = hashlib.sha256()
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()[:16]


def data_used(dataset: Dataset, splits: Sequence[str], use: str, degradation: str | None = None) -> Iterator[DataUsed]:
    """The splits of a data set as a row names them: `<data set>-<degradation>-<split>`."""
    for split in splits:
        folder = dataset.folder / split
        name = "-".join(part for part in (dataset.info.name, degradation, split) if part)
        yield DataUsed(name, data_digest(folder), folder.as_posix(), dataset.info.splits[split], use)
