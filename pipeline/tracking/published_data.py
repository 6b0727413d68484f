"""Which data a row of the comparison used, with digests of the files. Not a stage."""

from collections.abc import Iterator, Sequence

from data.manifest import Dataset
from pipeline.provenance import data_digest
from pipeline.tracking.rows import DataUsed


def data_used(dataset: Dataset, splits: Sequence[str], use: str, degradation: str | None = None) -> Iterator[DataUsed]:
    """The splits of a data set as a row names them: `<data set>-<degradation>-<split>`."""
    for split in splits:
        folder = dataset.folder / split
        name = "-".join(part for part in (dataset.info.name, degradation, split) if part)
        yield DataUsed(name, data_digest(folder), folder.as_posix(), dataset.info.splits[split], use)
