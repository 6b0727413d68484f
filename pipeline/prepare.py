"""Stage prepare: turn the chosen source into the canonical clean dataset."""

from pathlib import Path

from joblib import Parallel, delayed

from data.manifest import DatasetError, DatasetInfo, write_info, write_sample
from data.sources import Source, load_source
from pipeline import runtime
from pipeline.params import Params, load_params
from pipeline.training import progress


def prepare(params: Params, out: Path) -> None:
    """Write the dataset of `params.data` to `out`.

    Raises:
        DatasetError: the source's files are not as expected, or a split is empty.
    """
    source = load_source(params.data.source)(Path(params.data.root), params.data.settings, params.seed)
    ids = source.split_ids()
    for split, names in ids.items():
        if not names:
            raise DatasetError(f"{params.data.root}: split {split} has no images")
    with runtime.replacing_folder(out) as folder:
        work = [(split, name) for split, names in ids.items() for name in names]
        results = Parallel(n_jobs=-1, return_as="generator")(
            delayed(_write)(source, split, name, folder) for split, name in work
        )
        with progress(len(work), "prepare", "image") as bar:
            for _ in results:
                bar.update()
        counts = {split: len(names) for split, names in ids.items()}
        write_info(folder, DatasetInfo(source.name, source.classes, counts, source.description))


def _write(source: Source, split: str, name: str, folder: Path) -> None:
    write_sample(folder, source.sample(split, name))


def main() -> None:
    """Command line."""
    options = runtime.arguments("out")
    prepare(load_params(), Path(options.out))


if __name__ == "__main__":
    runtime.run_stage(main)
