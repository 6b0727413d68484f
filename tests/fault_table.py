"""One fault as a row of a table: how it is made, what is run, and the one line that it must give."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Fault:
    """Something wrong.

    Attributes:
        name: of the test.
        prepare: makes it, in a folder.
        run: what then must refuse it, in that folder.
        match: a regular expression that the message holds.
    """

    name: str
    prepare: Callable[[Path], Any]
    run: Callable[[Path], Any]
    match: str


def refuses(fault: Fault, folder: Path, *kinds: type[Exception]) -> None:
    """The fault gives an error of exactly one of these classes, in one line that says what it must."""
    fault.prepare(folder)
    with pytest.raises(kinds) as caught:
        fault.run(folder)
    text = str(caught.value)
    assert type(caught.value) in kinds and re.search(fault.match, text), f"{type(caught.value).__name__}: {text}"
    assert "\n" not in text and len(text) < 1000


def names(faults: list[Fault]) -> list[str]:
    """The names of the tests; each fault has one of its own."""
    found = [fault.name for fault in faults]
    assert len(set(found)) == len(found)
    return found


def edit(path: Path, old: str, new: str) -> None:
    """Replace text that must be there."""
    text = path.read_text()
    assert old in text, old
    path.write_text(text.replace(old, new, 1))


def cut(path: Path, share: float = 0.5) -> None:
    """Keep the beginning of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
