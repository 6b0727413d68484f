"""Where the files of a pipeline lie below `artifacts/`."""

from collections.abc import Collection
from pathlib import Path

from pipeline.running.atomic_outputs import ADVICE, StageFileError

CLEAN_TRAINED_FOLDER = "frozen"  # of the variants on which the network trained on clean images predicts
TRAINING = "~"  # <split>~2: the same split restored by the second training of a restorer
RECORDS_FILE = "records.npz"  # scores of one variant on one split, in a folder <variant>/<split>
DIFFLOSS_FILE = "diffloss.npz"  # beside the records of image quality: DiffLoss's terms for some images
LEFT_OUT_FILE = "left_out.json"  # metrics of image quality that could not be measured, with the reason


def trainings(folder: Path, split: str) -> list[Path]:
    """The folders of a split that each training of a restorer restored: <split>, <split>~2, <split>~3, ..."""
    further = sorted(folder.glob(f"{split}{TRAINING}*"), key=lambda path: int(path.name.rpartition(TRAINING)[2]))
    return [folder / split, *further]


def variant_folder(evaluations: Path, task: str, degradation: str, variant: str, arms: Collection[str]) -> Path:
    """The folder of one variant's predictions and records. It has a folder for each split."""
    folder = evaluations / task / degradation
    return folder / variant if variant in arms else folder / CLEAN_TRAINED_FOLDER / variant


def record_files(folder: Path) -> dict[str, list[Path]]:
    """For each split of a variant the files of its records, one for each training of the restorer."""
    names = sorted(path.parent.name for path in folder.glob(f"*/{RECORDS_FILE}"))
    splits = dict.fromkeys(name.partition(TRAINING)[0] for name in names)
    return {split: [path / RECORDS_FILE for path in trainings(folder, split)] for split in splits}


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
