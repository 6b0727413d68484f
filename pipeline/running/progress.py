"""Progress bars."""

import sys
from typing import Any

from tqdm import tqdm


def progress(total: int, description: str, unit: str, hidden: bool = False) -> "tqdm[Any]":
    """A progress bar. In a log file it writes a line every 30 seconds."""
    interval = 1.0 if sys.stderr.isatty() else 30.0
    return tqdm(total=total, desc=description, unit=unit, mininterval=interval, dynamic_ncols=True, disable=hidden)
