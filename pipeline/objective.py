"""Stage objective: everything that one objective depends on. Its restorers are trained again only if that changes.

In dvc.yaml all items of a matrix have the same dependencies, but only some objectives need the prior. So this stage
writes the settings of the objective's losses, and the digests of their code and of the networks that they need. For an
objective on a mixture of degradations it also writes the digests of their training images.
"""

import json
from pathlib import Path
from typing import Any

from data.dataset import Dataset
from models.losses import needs_prior
from pipeline.running.atomic_outputs import StageFileError, replacing
from pipeline.running.digests import data_digest, digest_files
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.settings.grammar import CHECKPOINT, FROZEN, objective_losses
from pipeline.settings.params import Params, load_params
from pipeline.settings.plugins import check_section
from pipeline.training.needed_networks import Losses, task_network


def describe(objective: str, params: Params, prior: Path, tasks: Path, code: Path, degraded: Path) -> dict[str, Any]:
    """The settings and digests that a training depends on because of its objective.

    Args:
        objective: its name.
        params: losses, tasks and numbers of steps.
        prior: folder of the prior.
        tasks: folder of the trained task networks.
        code: folder of the digests that the stage `code` wrote.
        degraded: folder of the degraded datasets.

    Raises:
        GrammarError: an unknown loss in the objective.
        ParamsError: a loss needs a task network that is not trained in this pipeline.
        StageFileError: the stage `code` has not run.
    """
    losses = objective_losses(objective, params.losses)
    network = task_network(losses, params.tasks)
    return {
        "objective": objective,
        "losses": {name: {"kind": kind, "settings": settings} for name, (kind, settings) in losses.items()},
        "steps": params.train_restorer.of(objective).steps,
        "code": _code_digest(code / "objectives" / objective),
        "prior": _folder_digest(prior) if needs_prior(losses) else None,
        "network": network,
        "weights": _folder_digest(tasks / network) if network else None,
        "network code": _code_digest(code / "tasks" / network) if network else None,
        "files": {str(path): digest_files(path) for path in _files(objective, losses, params)},
        "mixture": {name: _image_digests(degraded / name) for name in params.train_restorer.mixture(objective)},
    }


def _files(objective: str, losses: Losses, params: Params) -> list[Path]:
    """The files that the losses read, such as an encoder's weights, or the checkpoint that is used as it is."""
    if objective == FROZEN:
        return [Path(params.train_restorer.sections[CHECKPOINT]["weights"])]
    files: list[Path] = []
    for name, (kind, section) in losses.items():
        files += getattr(check_section("losses", kind, section, f"losses.{name}"), "files", [])
    return files


def _code_digest(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise StageFileError(f"{path}: missing. Run `dvc repro -s code` first.") from error


def _folder_digest(folder: Path) -> str:
    return digest_files(*(path for path in folder.rglob("*") if path.is_file()))


def _image_digests(dataset: Path) -> list[str]:
    """The digests of the degraded images that a training can see, those to train on and those to validate on."""
    splits = Dataset.open(dataset).info.splits
    return [data_digest(dataset / name / "images") for name in ("train", "val") if name in splits]


def main() -> None:
    """Command line."""
    options = parse_arguments("objective", "prior", "tasks", "code", "degraded", "out")
    folders = Path(options.prior), Path(options.tasks), Path(options.code), Path(options.degraded)
    description = describe(options.objective, load_params(), *folders)
    with replacing(Path(options.out)) as scratch:
        scratch.write_text(json.dumps(description, indent=1) + "\n")


if __name__ == "__main__":
    run_stage(main)
