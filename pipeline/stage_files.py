"""What one stage reads of another's files: damaged ones are named, with what to do. Not a stage."""

import json
from pathlib import Path
from typing import Any

ADVICE = "remove it and run `dvc repro`, which makes it anew or takes it from the cache"


class StageFileError(ValueError):
    """A stage's output that another stage cannot read; the text names the file and what to do."""


def read_json(path: Path, *keys: str) -> dict[str, Any]:
    """An object of JSON with at least these keys.

    Raises:
        StageFileError: the file is missing or damaged, or of another version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StageFileError(f"{path}: damaged or missing ({error}); {ADVICE}") from error
    missing = [key for key in keys if not isinstance(content, dict) or key not in content]
    if missing or not isinstance(content, dict):
        what = f"has no {missing[0]!r}" if missing else "is no object"
        raise StageFileError(f"{path}: from another version: it {what}; {ADVICE}")
    return content


def read_table(path: Path, **options: Any) -> Any:
    """A CSV file as a pandas DataFrame.

    Args:
        path: of the file.
        options: of `pandas.read_csv`.

    Raises:
        StageFileError: the file is missing, empty or damaged.
    """
    import pandas as pd

    try:
        return pd.read_csv(path, **options)
    except (OSError, ValueError) as error:
        raise StageFileError(f"{path}: damaged or missing ({' '.join(str(error).split())}); {ADVICE}") from error
