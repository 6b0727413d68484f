"""Stage restore: the evaluation split of a degraded dataset through a trained restorer."""

import json
import statistics
import time
from pathlib import Path

import torch

from data import images
from data.manifest import Dataset, Split
from models.restorers import Restorer, load_restorer
from models.restorers.tiling import restore_tiled
from pipeline import runtime
from pipeline.params import load_params
from pipeline.restorer_params import Restore
from pipeline.training import progress

WARM_UP = 2  # images that are not timed: the first ones pay for allocation


def restore_split(restorer: Restorer, degraded: Split, settings: Restore, out: Path, description: str) -> list[float]:
    """Write a restored PNG for every image into a folder; returns the seconds each one spent in the restorer."""
    out.mkdir(exist_ok=True)
    device = next(restorer.parameters()).device
    seconds = []
    with torch.inference_mode(), progress(len(degraded.ids), description, "image") as bar:
        for id in degraded.ids:
            batch = images.to_tensor(degraded.image(id))[None].to(device)
            started = time.perf_counter()
            if settings.tile is None:
                restored = restorer(batch)[0].cpu()
            else:
                restored = restore_tiled(restorer, batch, settings.tile, settings.overlap)[0].cpu()
            seconds.append(time.perf_counter() - started)
            images.write_image(out / f"{id}.png", images.to_uint8(restored))
            bar.update()
    return seconds


def main() -> None:
    """Command line."""
    options = runtime.arguments("restorer", "degraded", "out", "costs")
    degraded = Dataset.open(Path(options.degraded))
    restorer = load_restorer(Path(options.restorer) / "restorer.safetensors").to(runtime.device())
    settings = load_params().restore
    with runtime.replacing_folder(Path(options.out)) as folder:
        seconds = [
            one
            for split in degraded.evaluation_splits
            for one in restore_split(
                restorer, degraded.split(split), settings, folder / split, f"restore {options.out} {split}"
            )
        ]
    timed = seconds[WARM_UP:] or seconds
    with runtime.replacing(Path(options.costs)) as scratch:
        scratch.write_text(json.dumps({"milliseconds_per_image": round(1000 * statistics.median(timed), 3)}) + "\n")


if __name__ == "__main__":
    runtime.run_stage(main)
