"""What makes a row of the comparison the same row: the parameters that it depends on. Not a stage."""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path

from pipeline.running.atomic_outputs import ADVICE, StageFileError
from pipeline.settings.grammar import CLEAN as CLEAN
from pipeline.settings.grammar import objective_of
from pipeline.settings.params import ELSEWHERE, Params

CLEAN_TRAINED_FOLDER = "frozen"  # of the variants on which the network trained on clean images predicts
TRAINING = "~"  # <split>~2: the same split restored by the second training of a restorer
RECORDS_FILE = "records.npz"  # the scores of one variant on one split, in a folder <variant>/<split>
DIFFLOSS_FILE = "diffloss.npz"  # beside the records of image quality: DiffLoss's terms of some of the images
LEFT_OUT_FILE = "left_out.json"  # which metrics of image quality could not be measured, and why
LISTS = {"degradations", "objectives", "tasks", "arms", "quality", "report", *ELSEWHERE}  # not of a row


def trainings(folder: Path, split: str) -> list[Path]:
    """The folders of one split restored by each training of a restorer: <split>, <split>~2, <split>~3, ..."""
    others = sorted(folder.glob(f"{split}{TRAINING}*"), key=lambda path: int(path.name.rpartition(TRAINING)[2]))
    return [folder / split, *others]


def variant_folder(evaluations: Path, task: str, degradation: str, variant: str, arms: Collection[str]) -> Path:
    """Where the predictions and records of one variant lie, in a folder for each split."""
    folder = evaluations / task / degradation
    return folder / variant if variant in arms else folder / CLEAN_TRAINED_FOLDER / variant


def record_files(folder: Path) -> dict[str, list[Path]]:
    """For each split of a variant the files of its records, one for each training of the restorer."""
    names = sorted(path.parent.name for path in folder.glob(f"*/{RECORDS_FILE}"))
    splits = dict.fromkeys(name.partition(TRAINING)[0] for name in names)
    return {split: [path / RECORDS_FILE for path in trainings(folder, split)] for split in splits}


def row_identity(params: Params, degradation: str | None, variant: str, needs_prior: bool = False) -> str:
    """A digest of the parameters behind one row: a degradation and a variant (`clean`, `degraded`, an objective, ...).

    What a row does not depend on is left out, so that changing it makes no second row of the same.
    """
    unused = LISTS | {"losses", "degrade"}
    objective = objective_of(variant, params.objectives)
    if objective is None:
        unused |= {"train_restorer", "restore"}
    if not needs_prior:
        unused |= {"train_prior"}
    rest = params.model_dump(mode="json", exclude=unused)
    if "train_restorer" in rest:
        rest["train_restorer"] = params.train_restorer.of(str(objective)).used
    parts = [rest, params.degrade.only(degradation), params.losses_of(objective or variant), degradation, variant]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def trained_file(folder: Path, number: int = 1) -> Path:
    """The weights of one training; the first is number 1."""
    return folder / ("restorer.safetensors" if number == 1 else f"restorer-{number}.safetensors")


def trained_files(folder: Path) -> list[Path]:
    """The weights of all trainings, in order.

    Raises:
        StageFileError: there are none.
    """
    files: list[Path] = []
    while (file := trained_file(folder, len(files) + 1)).exists():
        files.append(file)
    if not files:
        raise StageFileError(f"{folder}: no trained restorer: {trained_file(folder).name} is missing; {ADVICE}")
    return files
