"""Stage restore: the evaluation split of a degraded dataset through a trained restorer."""

import json
import statistics
from pathlib import Path

import torch

from data.manifest import Dataset, Split
from models.restorers import Restorer, load_restorer
from pipeline import costs, runtime
from pipeline.identity import TRAINING
from pipeline.params import load_params
from pipeline.restorer_params import Restore
from pipeline.restoring import restore_image, run, to_batch
from pipeline.trained import trained_files
from pipeline.training import progress

WARM_UP = 2  # images that are not timed: the first ones pay for allocation


def restore_split(restorer: Restorer, degraded: Split, settings: Restore, out: Path, description: str) -> list[float]:
    """Write a restored PNG for every image into a folder; returns the seconds each one spent in the restorer."""
    out.mkdir(exist_ok=True)
    seconds = []
    with torch.inference_mode(), progress(len(degraded.ids), description, "image") as bar:
        for id in degraded.ids:
            seconds.append(restore_image(restorer, degraded.image(id), settings, out / f"{id}.png"))
            bar.update()
    return seconds


def measure_pass(restorer: Restorer, degraded: Split, settings: Restore) -> dict[str, float]:
    """Operations and peak memory of one pass at the size of the split's first image, and that size."""
    image = degraded.image(degraded.ids[0])
    batch = to_batch(restorer, image)
    found = {
        "gflops": costs.gflops(lambda: run(restorer, batch, settings)),
        "peak_memory_mib": costs.peak_memory_mib(lambda: run(restorer, batch, settings), batch.device),
        "megapixels": image.shape[0] * image.shape[1] / 1e6,
    }
    return {name: float(f"{value:.6g}") for name, value in found.items() if value is not None}


def main() -> None:
    """Command line."""
    options = runtime.arguments("restorer", "degraded", "out", "costs")
    degraded, settings = Dataset.open(Path(options.degraded)), load_params().restore
    seconds: list[float] = []
    with runtime.replacing_folder(Path(options.out)) as folder:
        for number, file in enumerate(trained_files(Path(options.restorer)), start=1):
            restorer = load_restorer(file).to(runtime.device())
            for split in degraded.evaluation_splits:
                name = split if number == 1 else f"{split}{TRAINING}{number}"
                text = f"restore {options.out} {name}"
                seconds += restore_split(restorer, degraded.split(split), settings, folder / name, text)
    timed = seconds[WARM_UP:] or seconds
    measured = {"milliseconds_per_image": round(1000 * statistics.median(timed), 3)}
    measured |= measure_pass(restorer, degraded.split(degraded.evaluation_splits[0]), settings)
    with runtime.replacing(Path(options.costs)) as scratch:
        scratch.write_text(json.dumps(measured) + "\n")


if __name__ == "__main__":
    runtime.run_stage(main)
