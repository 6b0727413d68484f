"""Progress bars."""

import sys
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


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


def with_progress(items: Sequence[Item], description: str, unit: str) -> Iterator[Item]:
    """The items one after the other, with a progress bar that counts those that are finished."""
    with progress(len(items), description, unit) as bar:
        for item in items:
            yield item
            bar.update()
