"""Stage train_restorer: one restorer for one degradation and one objective.

Restorers of different objectives start from the same weights and see the same crops in the same order:
the objective is the only difference between them. With `steps_of` or early stopping they may also differ in their
number of steps.
"""

import math
from argparse import Namespace
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from data.batches import PairBatches
from data.dataset import Dataset
from models.diffusion.prior import DiffusionPrior
from models.losses import FROZEN, build_objective, needs_prior, needs_task
from models.losses.objective import ObjectiveOutput
from models.restorers import CHECKPOINT, RESTORERS, build_restorer, load_restorer, save_restorer
from models.restorers.contract import Restorer
from models.tasks import get_task
from pipeline.running.artifacts import row_identity, trained_file
from pipeline.running.atomic_outputs import WORK, read_json, replacing_folder
from pipeline.running.digests import checkpoint_folder, fingerprint
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.running.seeds import choose_device, seed_for
from pipeline.settings.params import Params, load_params
from pipeline.settings.training import TrainRestorer
from pipeline.tracking import streaming
from pipeline.training.distributed import TrainingRank, launch_ranks, training_rank
from pipeline.training.loop import Loop, unseen
from pipeline.training.optimisation import Optimisation, TrainingError
from pipeline.training.validation import VALIDATION, Validator, build_validator

ADVICE = "lower learning_rate, or lengthen warm_up"


class Batches(Protocol):
    """Training pairs: step -> degraded and clean images (B, 3, H, W) in [0, 1]."""

    def __call__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]: ...

    def ids(self, step: int) -> list[str]:
        """Which images they are."""
        ...


def start(settings: TrainRestorer) -> Restorer:
    """The restorer that training starts from: a new one, or the one that a file holds.

    Raises:
        models.restorers.RestorerError: settings that do not fit, or a file that cannot be read.
    """
    if settings.restorer == CHECKPOINT:
        return load_restorer(settings.network["weights"])
    return build_restorer(settings.restorer, settings.network)


def train_restorer(
    batches: Batches,
    objective: torch.nn.Module,
    settings: TrainRestorer,
    loop: Loop,
    validator: Validator | None = None,
    rank: TrainingRank | None = None,
) -> Restorer:
    """Train with AdamW and a cosine schedule; the last weights are kept, unless `validator` chooses others.

    Where a rank of processes shares it, each is given its part of every batch, and all end with the same weights.

    Raises:
        TrainingError: something stopped being finite; the text names the step, the images and where it began.
    """
    torch.manual_seed(loop.seed)
    rank = rank or TrainingRank(loop.device)
    optimisation = Optimisation(start(settings).to(loop.device).train(), settings, rank)
    objective = objective.to(loop.device)
    state = {**optimisation.state, "objective": objective} | ({"validator": validator} if validator else {})
    for step in loop.steps(settings.steps, state):
        if validator and validator.says_stop:
            break
        try:
            logs = _train_step(batches, objective, optimisation, loop, step)
        except TrainingError as error:
            raise TrainingError(f"step {step}: {error}; images {', '.join(batches.ids(step))}; {ADVICE}") from error
        validation = validator(step + 1, optimisation.result) if validator else {}
        loop.log(step + 1, **rank.mean_values(logs), **validation)
    if validator:
        validator.put_best(optimisation.result)
    return optimisation.result.eval()


def _train_step(
    batches: Batches, objective: torch.nn.Module, optimisation: Optimisation, loop: Loop, step: int
) -> dict[str, float]:
    degraded, clean = (images.to(loop.device) for images in batches(step))
    with optimisation.precision():
        restored = optimisation.network(degraded)
    if not torch.isfinite(restored).all():
        raise TrainingError("the restorer's output is not finite")
    generator = torch.Generator().manual_seed(seed_for(loop.seed, "objective", step))
    output: ObjectiveOutput = objective(restored, clean, generator=generator)
    values = {"loss": output.total.item(), **output.logs}
    faulty = [name for name, value in values.items() if not math.isfinite(value)]
    if faulty:
        raise TrainingError(f"the objective is not finite in {', '.join(faulty)}")
    return {**values, **optimisation.step(output.total)}


def _task_features(
    tasks: Path, description: dict[str, Any], device: torch.device
) -> Callable[[torch.Tensor], list[torch.Tensor]]:
    """The features of the frozen task network that the objective names."""
    network = description["network"]
    return get_task(network).load(tasks / network, device).features


def _code(settings: TrainRestorer) -> list[str]:
    """The modules that a training runs: those that it imports by name are not found in its source."""
    names = RESTORERS if settings.restorer == CHECKPOINT else [settings.restorer]
    own = [RESTORERS[name].split(":")[0] for name in names]
    return ["pipeline.train_restorer", *own, "models.restorers.checkpoint"]


def _train(
    options: Namespace, params: Params, description: dict[str, Any], number: int, rank: TrainingRank
) -> tuple[Restorer, Loop]:
    """Train, or go on where a killed training stopped; the first one's curve streams to MLflow meanwhile."""
    device, name = rank.device, description["objective"]
    settings = params.train_restorer.of(name)
    degraded, clean = (Dataset.open(Path(path)) for path in (options.degraded, options.clean))
    validator = build_validator(degraded, clean, settings.validation, rank)
    inputs = fingerprint(*_inputs(settings, degraded, clean, validator))
    own = {name: value for name, value in settings.used.items() if name != "repeats"}
    work = checkpoint_folder(_code(settings), params.seed, own, description, inputs, number)
    losses = description["losses"]
    prior = DiffusionPrior.load(Path(options.prior)) if needs_prior(name, losses) else None
    features = _task_features(Path(options.tasks), description, device) if needs_task(name, losses) else None
    objective = build_objective(
        name, losses, prior=prior, task_features=features, bank_folder=work / "bank", share=rank
    )
    seed = seed_for(params.seed, "restorer", *([number] if number > 1 else []))
    splits, share = (degraded.split("train"), clean.split("train")), (rank.index, rank.count)
    batches = PairBatches(*splits, settings.crop, settings.batch, seed, share, settings.clean_share)
    tags = {"degradation": options.degradation, "variant": name}
    identity = row_identity(params, options.degradation, name, needs_prior(name, losses))
    title = f"{options.degradation} · {name}"
    system = params.tracking.system_metrics
    live = partial(streaming.live, clean.info.name, title, tags, identity, work.name, system)
    with rank.on_first(live if number == 1 else nullcontext) as stream:
        text = f"train_restorer {options.degradation} {name}" + (f" {number}" if number > 1 else "")
        loop = Loop(text, work, seed, device, stream or unseen, rank)
        return train_restorer(batches, objective, settings, loop, validator, rank), loop


def _inputs(settings: TrainRestorer, degraded: Dataset, clean: Dataset, validator: Validator | None) -> list[Path]:
    """The files and folders that a training reads."""
    splits = ["train", *([VALIDATION] if validator else [])]
    files = [Path(settings.network["weights"])] if settings.restorer == CHECKPOINT else []
    return [*files, *(dataset.folder / split / "images" for dataset in (degraded, clean) for split in splits)]


def _train_all(options: Namespace, params: Params, description: dict[str, Any], rank: TrainingRank) -> None:
    """Every training of this restorer; the first process of a rank writes what comes out."""
    loops: list[Loop] = []
    with rank.on_first(partial(replacing_folder, Path(options.out))) as folder:
        for number in range(1, params.train_restorer.repeats + 1):
            if description["objective"] == FROZEN:
                loop = Loop("frozen", WORK / "frozen", params.seed, rank.device)
                restorer = start(params.train_restorer)
            else:
                restorer, loop = _train(options, params, description, number, rank)
            loops.append(loop)
            if folder:
                save_restorer(trained_file(folder, number), restorer)
                loop.write_curve(folder / ("curve.csv" if number == 1 else f"curve-{number}.csv"))
    if rank.is_first:
        loops[0].write_costs(Path(options.costs), restorer)
        for loop in loops:
            loop.finish()


def main() -> None:
    """Command line."""
    options = parse_arguments("degradation", "objective", "degraded", "clean", "prior", "tasks", "out", "costs")
    params = load_params()
    description = read_json(Path(options.objective), "objective", "losses")
    if description["objective"] == FROZEN:
        _train_all(options, params, description, TrainingRank(choose_device()))
    elif not launch_ranks("pipeline.train_restorer", params.processes):
        with training_rank(train_restorer=params.train_restorer.batch) as rank:
            _train_all(options, params, description, rank)


if __name__ == "__main__":
    run_stage(main)
