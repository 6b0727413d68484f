"""Stage train_mixture: one restorer for several degradations, if the objective is one on a mixture.

It is trained as the restorer of a single degradation is, with the same start, steps, crops and order. Every training
pair has one of the degradations, drawn at random, at the severity of the degraded image. The stage train_restorer then
uses its weights for every degradation.
"""

from argparse import Namespace
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.running.artifacts import write_not_needed
from pipeline.running.atomic_outputs import read_json
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.settings.params import Params, load_params
from pipeline.tracking import streaming
from pipeline.tracking.configurations import mixture_settings, training_configuration

if TYPE_CHECKING:
    from pipeline.training.repeats import Stream

STAGE = "train_mixture"


def _train(options: Namespace, params: Params, description: dict[str, Any]) -> None:
    # Imported here, because most objectives are on no mixture, and these import torch.
    from pipeline.training.distributed import launch_ranks, training_rank
    from pipeline.training.repeats import RestorerTraining, train_all

    if launch_ranks("pipeline.train_mixture", params.processes):
        return
    training = RestorerTraining(
        params,
        description,
        [Path(options.degraded) / name for name in description["mixture"]],
        Path(options.clean),
        Path(options.prior),
        Path(options.tasks),
        None,
        f"{STAGE} {description['objective']}",
        partial(_live, params, description),
    )
    with training_rank(train_restorer=params.train_restorer.batch) as rank:
        train_all(training, Path(options.out), Path(options.costs), rank)


def _live(params: Params, description: dict[str, Any], dataset: str, training: str) -> "AbstractContextManager[Stream]":
    """The context in which a training's curve streams to MLflow."""
    name = description["objective"]
    configuration = training_configuration(params, STAGE, name, mixture_settings(params, description))
    return streaming.live(dataset, name, {"stage": STAGE}, configuration, training, **params.tracking.model_dump())


def main() -> None:
    """Command line."""
    options = parse_arguments("objective", "degraded", "clean", "prior", "tasks", "out", "costs")
    params = load_params()
    description = read_json(Path(options.objective), "objective", "losses", "mixture")
    if not description["mixture"]:
        reason = f"{description['objective']} is trained for each degradation.\n"
        write_not_needed(Path(options.out), Path(options.costs), reason)
    else:
        _train(options, params, description)


if __name__ == "__main__":
    run_stage(main)
