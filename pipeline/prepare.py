"""Stage prepare: turn the chosen source into the canonical clean dataset."""

from pathlib import Path

from pipeline import runtime
from pipeline.intake import read_dataset
from pipeline.params import load_params


def main() -> None:
    """Command line."""
    options = runtime.arguments("out")
    params = load_params()
    read_dataset(params.data, params.seed, Path(options.out), params.tasks)


if __name__ == "__main__":
    runtime.run_stage(main)
