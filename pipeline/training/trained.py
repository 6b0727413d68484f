"""The files of a trained restorer: one for each training, which differ in their seeds. Not a stage."""

from pathlib import Path

from pipeline.stage_files import ADVICE, StageFileError


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
