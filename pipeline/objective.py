"""Stage objective: what one objective is made of. A restorer is trained again when, and only when, that changes.

DVC cannot say "this item of a matrix needs the prior and that one does not". So this stage writes down the
settings of the objective's own losses, the digest of their code and, where they need one, of the prior.
"""

import json
from pathlib import Path
from typing import Any

from models.losses import LOSSES, get_loss, get_settings, needs_prior
from models.tasks import TASKS
from pipeline.running.atomic_outputs import replacing
from pipeline.running.digests import closure, digest_files
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.settings.grammar import objective_losses
from pipeline.settings.params import PARAMS_FILE, Params, ParamsError, load_params


def describe(objective: str, params: Params, prior: Path, tasks: Path) -> dict[str, Any]:
    """Everything that a training with this objective depends on and another one may not.

    Raises:
        GrammarError: an unknown loss in the objective.
    """
    losses = objective_losses(objective, params.losses)
    kinds = {name: kind for name, (kind, _) in losses.items()}
    return {
        "objective": objective,
        "losses": {name: params.loss_settings[name] for name in kinds if name in params.losses},
        "steps": params.train_restorer.of(objective).steps,
        "code": {kind: digest_files(*closure(_module(kind), Path())) for kind in kinds.values()},
        "prior": digest_files(*_files(prior)) if needs_prior(losses) else None,
        **_task_network(kinds, params, tasks),
    }


def _task_network(kinds: dict[str, str], params: Params, tasks: Path) -> dict[str, Any]:
    """Which trained task network the objective's features come from, with the digests of its weights and code.

    Raises:
        ParamsError: the network that the loss names is not trained in this pipeline.
    """
    names = [name for name, kind in kinds.items() if get_loss(kind).needs_task]
    if not names:
        return {"network": None}
    settings = objective_losses(names[0], params.losses)[names[0]][1]
    network = get_settings(kinds[names[0]])(**settings).network
    if network not in params.tasks:
        raise ParamsError(
            f"{PARAMS_FILE}: losses.{names[0]}.network: {network!r} is not among tasks: {', '.join(params.tasks)}"
        )
    module = TASKS[network].split(":")[0]
    return {
        "network": network,
        "weights": digest_files(*_files(tasks / network)),
        "task code": digest_files(*closure(module, Path())),
    }


def _module(kind: str) -> str:
    return "models.losses" + LOSSES[kind].partition(":")[0]


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def main() -> None:
    """Command line."""
    options = parse_arguments("objective", "prior", "tasks", "out")
    description = describe(options.objective, load_params(), Path(options.prior), Path(options.tasks))
    with replacing(Path(options.out)) as scratch:
        scratch.write_text(json.dumps(description, indent=1) + "\n")


if __name__ == "__main__":
    run_stage(main)
