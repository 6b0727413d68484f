"""Stage prepare: turn the chosen source into the canonical clean dataset."""

from pathlib import Path

from pipeline.datasets.importing import import_dataset
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.settings.params import load_params


def main() -> None:
    """Command line."""
    options = parse_arguments("out")
    params = load_params()
    import_dataset(params.data, params.seed, Path(options.out), params.tasks)


if __name__ == "__main__":
    run_stage(main)
