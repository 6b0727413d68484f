"""Where the files of a pipeline lie below `artifacts/`."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.dataset import Dataset
from data.images import read_image
from pipeline.running.atomic_outputs import ADVICE, StageFileError, replacing, replacing_folder
from pipeline.settings.grammar import CLEAN, DEGRADED

CLEAN_TRAINED_FOLDER = "clean-trained"  # predictions of the task network that was trained on clean images
TRAINING = "~"  # <split>~2: the same split by the second training of a restorer or of a retrained network
RECORDS_FILE = "records.npz"  # scores of one variant on one split, in a folder <variant>/<split>
DIFFLOSS_FILE = "diffloss.npz"  # beside the records of image quality: DiffLoss's terms for some images
JOINT_FILE = "joint.json"  # beside the images of a joint arm: what it starts from
ON_CLEAN_FOLDER = "on-clean"  # in the folder of a retrained arm: the clean images, and what its network makes of them
NETWORKS_FOLDER = "networks"  # beside the evaluation of a joint arm: its restorer and its task network
LEFT_OUT_FILE = "left_out.json"  # metrics of image quality that could not be measured, with the reason


def training_split(split: str, number: int) -> str:
    """The name of a split as one training restored or scored it: <split>, <split>~2, <split>~3, ..."""
    return split if number == 1 else f"{split}{TRAINING}{number}"


def trainings(folder: Path, split: str) -> list[Path]:
    """The folders with the images of a split as each training restored them: <split>, <split>~2, <split>~3, ..."""
    further = sorted(folder.glob(f"{split}{TRAINING}*"), key=lambda path: int(path.name.rpartition(TRAINING)[2]))
    return [folder / split, *further]


def scored_images(degraded: Dataset, restored: Path, objectives: Sequence[str]) -> dict[tuple[str, str], Path]:
    """The folders with the images to score, by variant and split: the degraded ones, and those of every restorer.

    Args:
        degraded: the degraded dataset.
        restored: folder of the restored images, by objective and split.
        objectives: of the restorers.
    """
    folders = {}
    for split in degraded.evaluation_splits:
        folders[DEGRADED, split] = degraded.folder / split / "images"
        for objective in objectives:
            folders |= {(objective, folder.name): folder for folder in trainings(restored / objective, split)}
    return folders


def read_from(folder: Path, image_id: str) -> NDArray[np.uint8]:
    """The image <folder>/<image id>.png, uint8 RGB (H, W, 3)."""
    return read_image(folder / f"{image_id}.png")


def variant_folder(evaluations: Path, task: str, degradation: str, variant: str, arms: Collection[str]) -> Path:
    """The folder of one variant's predictions and records. It has a folder for each split.

    Those of clean images are the same for all degradations.
    """
    if variant == CLEAN:
        return evaluations / CLEAN / task
    folder = evaluations / task / degradation
    return folder / variant if variant in arms else folder / CLEAN_TRAINED_FOLDER / variant


def record_files(folder: Path) -> dict[str, list[Path]]:
    """The files of records of a variant, by split: one file for each training."""
    names = sorted(path.parent.name for path in folder.glob(f"*/{RECORDS_FILE}"))
    splits = dict.fromkeys(name.partition(TRAINING)[0] for name in names)
    return {split: [path / RECORDS_FILE for path in trainings(folder, split)] for split in splits}


def write_not_needed(out: Path, costs: Path, reason: str) -> None:
    """The outputs of a training that params.yaml does not ask for: a folder with the reason, and no costs."""
    with replacing_folder(out) as folder:
        (folder / "not-needed.txt").write_text(reason)
    with replacing(costs) as scratch:
        scratch.write_text("{}\n")


def arm_images_folder(folder: Path, number: int) -> Path:
    """The folder with the images of one training of an arm: `folder` itself, or `training-<number>` in it."""
    return folder if number == 1 else folder / f"training-{number}"


def trained_file(folder: Path, number: int = 1) -> Path:
    """The file with the weights of one training of a restorer. The first training has number 1."""
    return folder / ("restorer.safetensors" if number == 1 else f"restorer-{number}.safetensors")


def trained_files(folder: Path) -> list[Path]:
    """The files with the weights of all trainings of a restorer, in order.

    Raises:
        StageFileError: there is none.
    """
    files: list[Path] = []
    while (file := trained_file(folder, len(files) + 1)).exists():
        files.append(file)
    if not files:
        raise StageFileError(f"{folder}: no trained restorer: {trained_file(folder).name} is missing. {ADVICE}")
    return files
