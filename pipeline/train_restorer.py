"""Stage train_restorer: one restorer for one degradation and one objective.

Restorers of different objectives start from the same weights and see the same crops in the same order. Only the
objective differs, and with `steps_of` or early stopping the number of steps.
"""

import math
from argparse import Namespace
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch

from data.batches import Labels, PairBatches
from data.dataset import Dataset
from models.losses import build_objective, needs_labels, needs_prior, needs_task
from models.losses.objective import Objective, ObjectiveOutput
from models.restorers import CHECKPOINT, build_restorer, load_restorer, save_restorer
from models.restorers.contract import Restorer
from models.tasks import get_task
from pipeline.running.artifacts import trained_file
from pipeline.running.atomic_outputs import WORK, read_json, replacing_folder
from pipeline.running.digests import checkpoint_folder, fingerprint
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.running.restoring import restorer_modules
from pipeline.running.seeds import choose_device, seed_for
from pipeline.settings.grammar import FROZEN
from pipeline.settings.params import Params, load_params
from pipeline.settings.training import TrainRestorer
from pipeline.tracking import streaming
from pipeline.tracking.configurations import row_configuration
from pipeline.training.distributed import TrainingRank, launch_ranks, training_rank
from pipeline.training.loop import Loop, no_stream
from pipeline.training.optimisation import Optimisation, TrainingError
from pipeline.training.validation import VALIDATION, Validator, build_validator

ADVICE = "Lower learning_rate, or lengthen warm_up."


class Batches(Protocol):
    """Training pairs: step -> degraded and clean images (B, 3, H, W) in [0, 1]."""

    def __call__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]: ...

    def labelled(self, step: int) -> tuple[torch.Tensor, torch.Tensor, Labels]:
        """The same pairs and their labels."""
        ...

    def ids(self, step: int) -> list[str]:
        """The ids of the images of a step."""
        ...


def starting_restorer(settings: TrainRestorer) -> Restorer:
    """The restorer that training starts from: new, or read from a checkpoint.

    Raises:
        models.restorers.RestorerError: settings that do not fit, or a file that cannot be read.
    """
    if settings.restorer == CHECKPOINT:
        return load_restorer(settings.network["weights"])
    return build_restorer(settings.restorer, settings.network)


def train_restorer(
    batches: Batches,
    objective: Objective,
    settings: TrainRestorer,
    loop: Loop,
    validator: Validator | None = None,
    rank: TrainingRank | None = None,
) -> Restorer:
    """Train with AdamW and a cosine schedule. Returns the last weights, unless `validator` chooses others.

    Each rank gets its slice of every batch; all ranks end with the same weights.

    Raises:
        TrainingError: a value is not finite. The text names the step, the images and the value.
    """
    rank = rank or TrainingRank(loop.device)
    optimisation = start_optimisation(settings, loop.seed, rank)
    objective = objective.to(loop.device)
    state = {**optimisation.state, "objective": objective} | ({"validator": validator} if validator else {})
    for step in loop.steps(settings.steps, state):
        if validator and validator.says_stop:
            break
        try:
            logs = train_step(batches, objective, optimisation, loop.seed, step)
        except TrainingError as error:
            raise TrainingError(f"step {step}: {error}; images {', '.join(batches.ids(step))}. {ADVICE}") from error
        validation = validator(step + 1, optimisation.result) if validator else {}
        loop.log(step + 1, **rank.mean_values(logs), **validation)
    if validator:
        validator.put_best(optimisation.result)
    return optimisation.result.eval()


def start_optimisation(settings: TrainRestorer, seed: int, rank: TrainingRank) -> Optimisation:
    """The optimisation of a training that has done no step: the same weights for the same seed."""
    torch.manual_seed(seed)
    return Optimisation(starting_restorer(settings).to(rank.device).train(), settings, rank)


def train_step(
    batches: Batches, objective: Objective, optimisation: Optimisation, seed: int, step: int
) -> dict[str, float]:
    """Change the restorer's weights once. Returns the values for the training curve.

    Args:
        batches: training pairs.
        objective: on the restorer's device.
        optimisation: of the restorer.
        seed: of the training.
        step: from 0.

    Raises:
        TrainingError: a value is not finite.
    """
    degraded, clean, labels = _batch(batches, step, objective.needs_labels, optimisation.device)
    with optimisation.precision():
        restored = optimisation.network(degraded)
    if not torch.isfinite(restored).all():
        raise TrainingError("the restorer's output is not finite")
    generator = torch.Generator().manual_seed(seed_for(seed, "objective", step))
    output: ObjectiveOutput = objective(restored, clean, generator=generator, labels=labels)
    values = {"loss": output.total.item(), **output.logs}
    faulty = [name for name, value in values.items() if not math.isfinite(value)]
    if faulty:
        raise TrainingError(f"the objective is not finite in {', '.join(faulty)}")
    return {**values, **optimisation.step(output.total)}


def _batch(
    batches: Batches, step: int, with_labels: bool, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, Labels | None]:
    """The pairs of a step on a device. Labels are read only if they are needed."""
    if not with_labels:
        degraded, clean = batches(step)
        return degraded.to(device), clean.to(device), None
    degraded, clean, labels = batches.labelled(step)
    labels = [boxes.to(device) for boxes in labels] if isinstance(labels, list) else labels.to(device)
    return degraded.to(device), clean.to(device), labels


def _checkpoint_folder(
    params: Params, settings: TrainRestorer, description: dict[str, Any], datasets: Sequence[Dataset], number: int
) -> Path:
    """The folder of a training's checkpoints, named by everything that the training depends on."""
    modules = restorer_modules(settings.restorer)
    used = {name: value for name, value in settings.used.items() if name != "repeats"}
    splits = ["train", *([VALIDATION] if settings.validation.every is not None else [])]
    files = [Path(settings.network["weights"])] if settings.restorer == CHECKPOINT else []
    files += [dataset.folder / split / "images" for dataset in datasets for split in splits]
    if needs_labels(_losses(description)):
        files += [datasets[-1].folder / "train" / name for name in ("labels", "masks")]
    code = ["pipeline.train_restorer", *modules]
    return checkpoint_folder(code, params.seed, used, description, fingerprint(*files), number)


def load_objective(description: dict[str, Any], prior: Path, tasks: Path, rank: TrainingRank) -> Objective:
    """The objective, with the frozen networks that its losses need.

    Args:
        description: what the stage `objective` wrote.
        prior: folder of the prior.
        tasks: folder of the trained task networks.
        rank: this process of the training.
    """
    losses, features, loss = _losses(description), None, None
    if needs_task(losses):
        network = get_task(description["network"]).load(tasks / description["network"], rank.device)
        features, loss = network.features, network.training_loss
    return build_objective(losses, prior_folder=prior, task_features=features, task_loss=loss, rank=rank)


def training_batches(
    description: dict[str, Any],
    degraded: Dataset,
    clean: Dataset,
    settings: TrainRestorer,
    seed: int,
    rank: TrainingRank,
) -> PairBatches:
    """The training pairs of a rank. Only their labels depend on the objective."""
    splits, share = (degraded.split("train"), clean.split("train")), (rank.index, rank.count)
    labels = _label_kind(description)
    return PairBatches(*splits, settings.crop, settings.batch, seed, share, settings.clean_share, labels)


def _label_kind(description: dict[str, Any]) -> str | None:
    """The labels of the objective's task network if a loss needs them, as a key of `Dataset.info.classes`."""
    return get_task(description["network"]).labels if needs_labels(_losses(description)) else None


def _losses(description: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    return {name: (loss["kind"], loss["settings"]) for name, loss in description["losses"].items()}


def _train(
    options: Namespace, params: Params, description: dict[str, Any], number: int, rank: TrainingRank
) -> tuple[Restorer, Loop]:
    """Train, or resume a killed training. The curve of the first training streams to MLflow meanwhile."""
    name = description["objective"]
    settings = params.train_restorer.of(name)
    degraded, clean = (Dataset.open(Path(path)) for path in (options.degraded, options.clean))
    validator = build_validator(degraded, clean, settings.validation, rank)
    work = _checkpoint_folder(params, settings, description, [degraded, clean], number)
    objective = load_objective(description, Path(options.prior), Path(options.tasks), rank)
    seed = seed_for(params.seed, "restorer", *([number] if number > 1 else []))
    batches = training_batches(description, degraded, clean, settings, seed, rank)
    live = streaming.live(
        clean.info.name,
        name=f"{options.degradation} · {name}",
        tags={"degradation": options.degradation, "variant": name},
        configuration=row_configuration(params, options.degradation, name, needs_prior(_losses(description))),
        training=work.name,
        system_metrics=params.tracking.system_metrics,
    )
    with live if rank.is_first and number == 1 else nullcontext(no_stream) as stream:
        text = f"train_restorer {options.degradation} {name}" + (f" {number}" if number > 1 else "")
        loop = Loop(text, work, seed, rank.device, stream, rank)
        return train_restorer(batches, objective, settings, loop, validator, rank), loop


def _train_all(options: Namespace, params: Params, description: dict[str, Any], rank: TrainingRank) -> None:
    """Run all trainings of this restorer. The first rank writes the outputs."""
    loops: list[Loop] = []
    with replacing_folder(Path(options.out)) if rank.is_first else nullcontext() as folder:
        for number in range(1, params.train_restorer.repeats + 1):
            if description["objective"] == FROZEN:
                restorer = starting_restorer(params.train_restorer)
                loop = Loop("frozen", WORK / "frozen", params.seed, rank.device)
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
