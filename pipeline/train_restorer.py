"""Stage train_restorer: one restorer for one degradation and one objective.

Restorers of different objectives start from the same weights and see the same crops in the same order. Only the
objective differs, and with `steps_of` or early stopping the number of steps. For an objective on a mixture of
degradations the stage train_mixture has trained the restorer, and its files are taken over.
"""

import json
import shutil
from argparse import Namespace
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from models.losses import needs_prior
from models.restorers import load_restorer
from pipeline.running.artifacts import trained_file
from pipeline.running.atomic_outputs import read_json, replacing, replacing_folder
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.running.seeds import choose_device
from pipeline.settings.grammar import FROZEN
from pipeline.settings.params import Params, load_params
from pipeline.tracking import streaming
from pipeline.tracking.configurations import row_configuration
from pipeline.training.distributed import TrainingRank, launch_ranks, training_rank
from pipeline.training.repeats import RestorerTraining, Stream, train_all
from pipeline.training.restorers import described_losses


def _training(options: Namespace, params: Params, description: dict[str, Any]) -> RestorerTraining:
    return RestorerTraining(
        params,
        description,
        [Path(options.degraded)],
        Path(options.clean),
        Path(options.prior),
        Path(options.tasks),
        options.degradation,
        f"train_restorer {options.degradation} {description['objective']}",
        partial(_live, params, description, options.degradation),
    )


def _take_over(mixture: Path, out: Path, costs: Path) -> None:
    """Copy the files of a restorer that was trained on a mixture. Its training cost nothing here."""
    restorer = load_restorer(trained_file(mixture))
    with replacing_folder(out) as folder:
        shutil.copytree(mixture, folder, dirs_exist_ok=True)
    with replacing(costs) as scratch:
        scratch.write_text(json.dumps({"parameters": sum(weight.numel() for weight in restorer.parameters())}) + "\n")


def _live(
    params: Params, description: dict[str, Any], degradation: str, dataset: str, training: str
) -> AbstractContextManager[Stream]:
    """The context in which a training's curve streams to MLflow."""
    name = description["objective"]
    return streaming.live(
        dataset,
        name=f"{degradation} · {name}",
        tags={"degradation": degradation, "variant": name},
        configuration=row_configuration(params, degradation, name, needs_prior(described_losses(description))),
        training=training,
        **params.tracking.model_dump(),
    )


def main() -> None:
    """Command line."""
    options = parse_arguments(
        "degradation", "objective", "degraded", "clean", "prior", "tasks", "mixture", "out", "costs"
    )
    params = load_params()
    description = read_json(Path(options.objective), "objective", "losses", "mixture")
    out, costs = Path(options.out), Path(options.costs)
    if description["mixture"]:
        _take_over(Path(options.mixture), out, costs)
    elif description["objective"] == FROZEN:
        train_all(_training(options, params, description), out, costs, TrainingRank(choose_device()))
    elif not launch_ranks("pipeline.train_restorer", params.processes):
        with training_rank(train_restorer=params.train_restorer.batch) as rank:
            train_all(_training(options, params, description), out, costs, rank)


if __name__ == "__main__":
    run_stage(main)
