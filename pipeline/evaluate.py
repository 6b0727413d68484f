"""Stage evaluate: one task on the clean, degraded and restored images of one degradation."""

from functools import partial
from pathlib import Path
from typing import Any

from data.dataset import Dataset
from data.images import read_image
from models.tasks import get_task
from models.tasks.contract import Image, Task
from pipeline.metrics.evaluation import evaluate
from pipeline.running.artifacts import trainings
from pipeline.running.atomic_outputs import replacing_folder
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.running.seeds import choose_device
from pipeline.settings.grammar import CLEAN, DEGRADED
from pipeline.settings.params import load_params


def main() -> None:
    """Command line."""
    options = parse_arguments("task", "network", "clean", "degraded", "restored", "out")
    params = load_params()
    clean, degraded = (Dataset.open(Path(path)) for path in (options.clean, options.degraded))
    load = partial(_load, options.task, Path(options.network))
    task, load_on_cluster = load(), load if params.engine == "ray" else None
    with replacing_folder(Path(options.out)) as out:
        if degraded.has_clean_images:
            truth = clean.split(clean.evaluation_split)
            read, target = partial(_read, truth.folder / "images"), out / CLEAN / clean.evaluation_split
            evaluate(task, truth, read, target, f"{options.task} on {CLEAN}", load_on_cluster)
        for split in degraded.evaluation_splits:
            truth = degraded.split(split)
            folders = {(DEGRADED, split): degraded.folder / split / "images"}
            for objective in params.objectives:
                restored = trainings(Path(options.restored) / objective, split)
                folders |= {(objective, folder.name): folder for folder in restored}
            for (variant, name), folder in folders.items():
                description = f"{options.task} on {variant} {name}"
                evaluate(task, truth, partial(_read, folder), out / variant / name, description, load_on_cluster)


def _load(task: str, network: Path) -> Task[Any]:
    return get_task(task).load(network, choose_device())


def _read(folder: Path, image_id: str) -> Image:
    return read_image(folder / f"{image_id}.png")


if __name__ == "__main__":
    run_stage(main)
