"""Progress bars."""

import sys
from typing import Any

from tqdm import tqdm


def progress(total: int, description: str, unit: str, hidden: bool = False) -> "tqdm[Any]":
    """A progress bar, which disappears when it ends. In a log file it writes a line every 30 seconds."""
    interval, delay = (1.0, 0.0) if sys.stderr.isatty() else (30.0, 30.0)
    return tqdm(
        total=total,
        desc=description,
        unit=unit,
        mininterval=interval,
        delay=delay,
        leave=False,
        dynamic_ncols=True,
        disable=hidden,
    )
