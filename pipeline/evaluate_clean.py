"""Stage evaluate_clean: one task on the clean images, which all degradations of the task share."""

from functools import partial
from pathlib import Path

from data.dataset import Dataset
from pipeline.metrics.evaluation import evaluate, load_network
from pipeline.running.atomic_outputs import replacing_folder
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.settings.grammar import CLEAN
from pipeline.settings.params import load_params


def main() -> None:
    """Command line."""
    options = parse_arguments("task", "network", "clean", "out")
    clean = Dataset.open(Path(options.clean))
    truth = clean.split(clean.evaluation_split)
    load = partial(load_network, options.task, Path(options.network))
    load_on_cluster = load if load_params().engine == "ray" else None
    with replacing_folder(Path(options.out)) as out:
        description = f"{options.task} on {CLEAN} {clean.evaluation_split}"
        evaluate(load(), truth, truth.image, out / clean.evaluation_split, description, load_on_cluster)


if __name__ == "__main__":
    run_stage(main)
