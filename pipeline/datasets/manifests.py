"""manifest.csv of a degraded dataset: a row for each image, from which the image can be made again."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.running.atomic_outputs import ADVICE

MANIFEST = "manifest.csv"
STEPS = "steps"  # the effects of a recipe as JSON
NAMES = ("split", "id", "recipe")
FIRST_COLUMNS = {*NAMES, "severity", "seed", STEPS}  # the others are drawn parameters


class ManifestError(ValueError):
    """A manifest that cannot be read, or a row from which its image cannot be made again. The text says why."""


def manifest_row(
    split: str, image_id: str, recipe: str, severity: int, seed: int, effects: Sequence[str], drawn: Mapping[str, Any]
) -> dict[str, Any]:
    """The row of one degraded image. Numbers are written so that reading gives the same values back."""
    row = {"split": split, "id": image_id, "recipe": recipe, "severity": severity, "seed": seed}
    cells = {name: value if isinstance(value, str) else json.dumps(value) for name, value in drawn.items()}
    return {**row, STEPS: json.dumps(list(effects)), **cells}


def write_manifest(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows as manifest.csv."""
    pd.DataFrame(rows).to_csv(folder / MANIFEST, index=False, lineterminator="\n")


def read_manifest(folder: Path) -> pd.DataFrame:
    """The manifest of a degraded dataset; floats are read exactly.

    Raises:
        ManifestError: there is none, it lacks a column, or a split or id in it is no plain name.
    """
    path = folder / MANIFEST
    try:
        # Only empty cells are missing: an image may be called NA or null.
        table = pd.read_csv(
            path, dtype=dict.fromkeys(NAMES, str), float_precision="round_trip", keep_default_na=False, na_values=[""]
        )
    except (OSError, ValueError, OverflowError) as error:
        raise ManifestError(
            f"{path}: cannot be read as a manifest ({' '.join(str(error).split())}). {ADVICE}"
        ) from error
    missing = [name for name in NAMES if name not in table]
    if missing:
        raise ManifestError(f"{path}: not a manifest of degraded images: there is no column {missing[0]!r}. {ADVICE}")
    broken = [name for name in table if str(name).splitlines() != [str(name)]]
    if broken:
        raise ManifestError(
            f"{path}: not a manifest of degraded images: a column's name is {broken[0][:60]!r}. {ADVICE}"
        )
    for column in ("split", "id"):  # the recipe of photos is their dataset's name: any text
        strange = [value for value in table[column] if not isinstance(value, str) or not is_plain_name(value)]
        if strange:
            raise ManifestError(
                f"{path}: {column}: expected the name of a file or folder, got {str(strange[0])[:60]!r}. {ADVICE}"
            )
    return table


def is_plain_name(name: str) -> bool:
    """Whether a name is that of a file or folder: without separators, and in one line."""
    return name.splitlines() == [name] and name not in (".", "..") and not {"/", "\\", "\0"} & set(name)
