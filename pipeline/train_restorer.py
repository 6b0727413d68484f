"""Stage train_restorer: one restorer for one degradation and one objective.

Restorers of different objectives start from the same weights and see the same crops in the same order:
the objective is the only difference between them.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from data.datasets import PairBatches
from data.manifest import Dataset
from models.diffusion.prior import DiffusionPrior
from models.losses import build_objective, needs_prior, needs_task
from models.restorers import Restorer, build_restorer, save_restorer
from models.tasks import get_task
from pipeline import runtime, tracking
from pipeline.identity import row_identity
from pipeline.params import TrainRestorer, load_params
from pipeline.training import Loop, checkpoint_folder, fingerprint


class TrainingError(ValueError):
    """A training that cannot go on."""


def train_restorer(batches: PairBatches, objective: torch.nn.Module, settings: TrainRestorer, loop: Loop) -> Restorer:
    """Train with AdamW and a cosine schedule; the last weights are kept, none are chosen.

    Raises:
        TrainingError: the loss stopped being finite; the text names the step.
    """
    torch.manual_seed(loop.seed)
    restorer = build_restorer(settings.restorer, settings.network).to(loop.device).train()
    objective = objective.to(loop.device)
    optimizer = torch.optim.AdamW(restorer.parameters(), lr=settings.learning_rate, betas=(0.9, 0.9), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps, eta_min=1e-7)
    state = {"restorer": restorer, "optimizer": optimizer, "schedule": schedule, "objective": objective}
    for step in loop.steps(settings.steps, state):
        degraded, clean = (images.to(loop.device) for images in batches(step))
        generator = torch.Generator().manual_seed(runtime.seed_for(loop.seed, "objective", step))
        output = objective(restorer(degraded), clean, generator=generator)
        if not torch.isfinite(output.total):
            raise TrainingError(f"step {step}: the loss is {output.total.item()} ({output.logs}); lower learning_rate")
        optimizer.zero_grad()
        output.total.backward()
        torch.nn.utils.clip_grad_norm_(restorer.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        loop.log(step + 1, loss=output.total.item(), **output.logs)
    return restorer.eval()


def _task_features(
    tasks: Path, description: dict[str, Any], device: torch.device
) -> Callable[[torch.Tensor], list[torch.Tensor]]:
    """The features of the frozen task network that the objective names."""
    network = description["network"]
    return get_task(network).load(tasks / network, device).features


def main() -> None:
    """Command line."""
    options = runtime.arguments("degradation", "objective", "degraded", "clean", "prior", "tasks", "out", "costs")
    params = load_params()
    settings, device = params.train_restorer, runtime.device()
    description: dict[str, Any] = json.loads(Path(options.objective).read_text())
    name = description["objective"]
    degraded, clean = (Dataset.open(Path(path)).split("train") for path in (options.degraded, options.clean))
    inputs = fingerprint(degraded.folder / "images", clean.folder / "images")
    work = checkpoint_folder(["pipeline.train_restorer"], params.seed, settings.model_dump(), description, inputs)
    prior = DiffusionPrior.load(options.prior) if needs_prior(name) else None
    features = _task_features(Path(options.tasks), description, device) if needs_task(name) else None
    objective = build_objective(
        name, description["losses"], prior=prior, task_features=features, bank_folder=work / "bank"
    )
    seed = runtime.seed_for(params.seed, "restorer")
    batches = PairBatches(degraded, clean, settings.crop, settings.batch, seed)
    experiment = Dataset.open(Path(options.clean)).info.name
    tags = {"degradation": options.degradation, "variant": name}
    identity = row_identity(params, options.degradation, name, needs_prior(name))
    with tracking.live(experiment, f"{options.degradation} · {name}", tags, identity, work.name) as stream:
        loop = Loop(f"train_restorer {options.degradation} {name}", work, seed, device, stream)
        restorer = train_restorer(batches, objective, settings, loop)
    with runtime.replacing_folder(Path(options.out)) as folder:
        save_restorer(folder / "restorer.safetensors", restorer)
        loop.write_curve(folder / "curve.csv")
    loop.write_costs(Path(options.costs), restorer)
    loop.finish()


if __name__ == "__main__":
    runtime.run_stage(main)
