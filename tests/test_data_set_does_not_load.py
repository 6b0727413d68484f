"""docs/how-to/data-set-does-not-load.md: its messages are those of the code."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "how-to" / "data-set-does-not-load.md").read_text()
MESSAGES = re.findall(r"^\| `(.+?)` \|", PAGE, re.MULTILINE)
CODE = "\n".join(path.read_text() for folder in ("data", "pipeline") for path in sorted((ROOT / folder).rglob("*.py")))
JOINED = re.sub(r'"\n\s*f?"', "", CODE)  # texts that go over several lines


@pytest.mark.parametrize("message", MESSAGES)
def test_the_code_has_the_message(message: str) -> None:
    assert message in JOINED


def test_every_kind_of_fault_has_a_row() -> None:
    sources = "\n".join(path.read_text() for path in sorted((ROOT / "data").rglob("*.py")))
    kinds = set(re.findall(r'(?:Fault\([^"]*|LabelError\(|text = \(?\s*)f?"([a-z0-9][a-z0-9A-Z \-]+): ', sources))
    assert len(kinds) > 10
    assert {kind for kind in kinds if not any(kind.startswith(message) for message in MESSAGES)} == set()
