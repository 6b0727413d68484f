"""Stage evaluate: one task on the clean, degraded and restored images of one degradation."""

from functools import partial
from pathlib import Path
from typing import Any

from data.dataset import Dataset
from models.tasks import get_task
from models.tasks.contract import Task
from pipeline.metrics.evaluation import evaluate
from pipeline.running.artifacts import TRAINING, read_from, scored_images
from pipeline.running.atomic_outputs import replacing_folder
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.running.seeds import choose_device
from pipeline.settings.grammar import CLEAN
from pipeline.settings.params import load_params


def main() -> None:
    """Command line."""
    options = parse_arguments("task", "network", "clean", "degraded", "restored", "out")
    params = load_params()
    clean, degraded = (Dataset.open(Path(path)) for path in (options.clean, options.degraded))
    folders = scored_images(degraded, Path(options.restored), params.objectives)
    if degraded.has_clean_images:
        folders = {(CLEAN, clean.evaluation_split): clean.folder / clean.evaluation_split / "images", **folders}
    load = partial(_load, options.task, Path(options.network))
    task, load_on_cluster = load(), load if params.engine == "ray" else None
    with replacing_folder(Path(options.out)) as out:
        for (variant, name), folder in folders.items():
            truth = (clean if variant == CLEAN else degraded).split(name.partition(TRAINING)[0])
            description = f"{options.task} on {variant} {name}"
            evaluate(task, truth, partial(read_from, folder), out / variant / name, description, load_on_cluster)


def _load(task: str, network: Path) -> Task[Any]:
    return get_task(task).load(network, choose_device())


if __name__ == "__main__":
    run_stage(main)
