"""Stage restore: the evaluation split of a degraded dataset through a trained restorer."""

import json
import statistics
from pathlib import Path

import torch

from data.manifest import Dataset, Split
from models.restorers import Restorer, load_restorer
from pipeline import runtime
from pipeline.identity import TRAINING
from pipeline.params import load_params
from pipeline.restorer_params import Restore
from pipeline.restoring import restore_image
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
    with runtime.replacing(Path(options.costs)) as scratch:
        scratch.write_text(json.dumps({"milliseconds_per_image": round(1000 * statistics.median(timed), 3)}) + "\n")


if __name__ == "__main__":
    runtime.run_stage(main)
