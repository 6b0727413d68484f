"""What the documentation tells people to type opens no door."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
COMMAND = re.compile(r"^\S*.*\bmlflow (?:server|ui)\b.*$", re.MULTILINE)


def _commands() -> list[str]:
    """Lines of code blocks that start an MLflow server."""
    blocks = [block for page in PAGES for block in page.read_text().split("```")[1::2]]
    return [line for block in blocks for line in COMMAND.findall(block)]


def test_every_mlflow_server_listens_on_loopback_or_asks_for_a_password() -> None:
    commands = _commands()
    assert len(commands) >= 2
    for command in commands:
        host = re.search(r"--host[ =](\S+)", command)
        local = host is None or host.group(1) in ("127.0.0.1", "localhost", "::1")  # MLflow's default is 127.0.0.1
        assert local or "--app-name basic-auth" in command, command


@pytest.mark.filterwarnings("ignore")  # of MLflow's own imports
def test_mlflow_listens_on_loopback_by_default() -> None:
    from mlflow.cli import server

    default = next(option for option in server.params if option.name == "host")
    assert default.default == "127.0.0.1"


def test_everything_that_needs_consent_is_in_security_md() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    fields = {
        field
        for room in ("pipeline/settings", "models")
        for path in (ROOT / room).rglob("*.py")
        for field in re.findall(r"\btrust_\w+", path.read_text())
    }
    assert fields == {"trust_pickle", "trust_paths"}
    assert all(field in text for field in fields)


def test_the_tests_that_security_md_names_exist() -> None:
    named = re.findall(r"`(test_\w+\*?\.py)`", (ROOT / "SECURITY.md").read_text())
    assert len(named) >= 10
    for name in named:
        assert list((ROOT / "tests").glob(name)), name
