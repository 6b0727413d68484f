"""Stage restore: the evaluation splits of a degraded dataset through a trained restorer.

Finished images survive a kill. The next run makes only the missing images.
"""

import json
import statistics
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

from data.dataset import Dataset, Split
from models.restorers.contract import Restorer
from pipeline.running import costs
from pipeline.running.artifacts import trained_files, training_split
from pipeline.running.atomic_outputs import replacing, resuming_folder
from pipeline.running.digests import checkpoint_folder, fingerprint
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.running.restoring import UNFINISHED, open_restorer, restore_batch, restore_split, to_batch
from pipeline.settings.params import load_params
from pipeline.settings.training import Restore, restorer_modules

WARM_UP = 2  # images that are not timed: the first images include allocation


def measure_pass(restorer: Restorer, degraded: Split, settings: Restore) -> dict[str, float]:
    """Gflops and peak_memory_mib of one pass for the split's first image, and the image's megapixels."""
    image = degraded.image(degraded.ids[0])
    batch = to_batch(restorer, [image])
    measured = {
        "gflops": costs.gflops(lambda: restore_batch(restorer, batch, settings)),
        "peak_memory_mib": costs.peak_memory_mib(lambda: restore_batch(restorer, batch, settings), batch.device),
        "megapixels": image.shape[0] * image.shape[1] / 1e6,
    }
    return {name: float(f"{value:.6g}") for name, value in measured.items() if value is not None}


def _identity(settings: Restore, files: list[Path], degraded: Dataset) -> str:
    """A digest of everything that restored images depend on."""
    code = ["pipeline.restore", *restorer_modules()]
    return checkpoint_folder(code, settings.model_dump(), fingerprint(*files), fingerprint(degraded.folder)).name


def main() -> None:
    """Command line."""
    options = parse_arguments("restorer", "degraded", "out", "costs")
    params, degraded, files = load_params(), Dataset.open(Path(options.degraded)), trained_files(Path(options.restorer))
    settings = params.restore
    seconds: list[float] = []
    with resuming_folder(Path(options.out), _identity(settings, files, degraded)) as folder:
        for number, file in enumerate(files, start=1):
            for split in degraded.evaluation_splits:
                name = training_split(split, number)
                text, load = f"restore {options.out} {name}", partial(open_restorer, file)
                seconds += restore_split(load, degraded.split(split), settings, folder / name, text, params.engine)
        restorer, first = open_restorer(files[-1]), degraded.split(degraded.evaluation_splits[0])
        if not seconds:  # a killed run has made all images
            sample = replace(first, ids=first.ids[: WARM_UP + 1])
            with tempfile.TemporaryDirectory() as scratch:
                seconds = restore_split(lambda: restorer, sample, settings, Path(scratch) / "timed", "restore: timing")
        for unfinished in folder.glob(f"{UNFINISHED}*"):
            unfinished.unlink()
    timed = seconds[WARM_UP:] or seconds
    measured = {"milliseconds_per_image": round(1000 * statistics.median(timed), 3)}
    measured |= measure_pass(restorer, first, settings)
    with replacing(Path(options.costs)) as scratch:
        scratch.write_text(json.dumps(measured) + "\n")


if __name__ == "__main__":
    run_stage(main)
