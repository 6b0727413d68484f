"""Stage objective: what one objective is made of. A restorer is trained again when, and only when, that changes.

DVC cannot say "this item of a matrix needs the prior and that one does not". So this stage writes down the
settings of the objective's own losses, the digest of their code and, where they need one, of the prior.
"""

import json
from pathlib import Path
from typing import Any

from models.losses import LOSSES, kind_of, loss_names, needs_prior
from models.losses.term import TaskSettings
from models.tasks import TASKS
from pipeline.running.atomic_outputs import replacing
from pipeline.running.digests import closure, digest_files
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.settings.params import PARAMS_FILE, Params, ParamsError, load_params


def describe(objective: str, params: Params, prior: Path, tasks: Path) -> dict[str, Any]:
    """Everything that a training with this objective depends on and another one may not.

    Raises:
        models.losses.LossError: an unknown loss in the objective.
    """
    losses = params.loss_settings
    kinds = {name: kind_of(name, losses) for name in loss_names(objective, losses)}
    return {
        "objective": objective,
        "losses": {name: losses[name] for name in kinds if name in losses},
        "steps": params.train_restorer.of(objective).steps,
        "code": {kind: digest_files(*closure(LOSSES[kind].module, Path())) for kind in kinds.values()},
        "prior": digest_files(*_files(prior)) if needs_prior(objective, losses) else None,
        **_task_network(kinds, params, tasks),
    }


def _task_network(kinds: dict[str, str], params: Params, tasks: Path) -> dict[str, Any]:
    """Which trained task network the objective's features come from, with the digests of its weights and code.

    Raises:
        ParamsError: the network that the loss names is not trained in this pipeline.
    """
    losses = params.loss_settings
    names = [name for name, kind in kinds.items() if LOSSES[kind].needs_task]
    if not names:
        return {"network": None}
    network = losses.get(names[0], {}).get("network", TaskSettings.network)
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
