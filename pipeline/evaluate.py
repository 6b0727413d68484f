"""Stage evaluate: one task on the degraded and restored images of one degradation."""

from functools import partial
from pathlib import Path

from data.dataset import Dataset
from pipeline.metrics.evaluation import evaluate, load_network
from pipeline.running.artifacts import TRAINING, read_from, scored_images
from pipeline.running.atomic_outputs import replacing_folder
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.settings.params import load_params


def main() -> None:
    """Command line."""
    options = parse_arguments("task", "network", "degraded", "restored", "out")
    params = load_params()
    degraded = Dataset.open(Path(options.degraded))
    folders = scored_images(degraded, Path(options.restored), params.objectives)
    load = partial(load_network, options.task, Path(options.network))
    task, load_on_cluster = load(), load if params.engine == "ray" else None
    with replacing_folder(Path(options.out)) as out:
        for (variant, name), folder in folders.items():
            truth = degraded.split(name.partition(TRAINING)[0])
            description = f"{options.task} on {variant} {name}"
            evaluate(task, truth, partial(read_from, folder), out / variant / name, description, load_on_cluster)


if __name__ == "__main__":
    run_stage(main)
