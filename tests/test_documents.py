"""The documents name what exists: modules, options, files, parameters and links."""

import re
from pathlib import Path

import pytest

from pipeline.commands.__main__ import list_commands

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
PACKAGES = "pipeline|benchmarks|tests|models|data"
MODULE = re.compile(rf"-m ((?:{PACKAGES})\.[\w.]+)")
NAMED = re.compile(r"`(pipeline\.(?:commands\.)?\w+)`")
COMMAND = re.compile(r"-m pipeline\.commands\.(\w+)((?:[^\n`|]|\\\\\n)*)")
OPTION = re.compile(r"(?<=\s)--?([a-z][\w-]*)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
TEST_FILE = re.compile(r"tests/test_[\w*]+\.py")
REMOVED = re.compile(
    r"pipeline\.(?:deploy|gate|restore_files|parallel|params)\b|pipeline\.(?:report --compare|degrade --redo)"
    r"|statistics\.rivals(?!`\))"
)


def _parametrized(pattern: re.Pattern[str]) -> pytest.MarkDecorator:
    """Every different match of a pattern, with the page that has it."""
    found = {match: page for page in PAGES for match in pattern.findall(page.read_text())}
    assert found, pattern
    return pytest.mark.parametrize(("match", "page"), list(found.items()), ids=[str(match) for match in found])


def _exists(module: str) -> bool:
    path = ROOT.joinpath(*module.split("."))
    return path.with_suffix(".py").exists() or (path / "__main__.py").exists()


@_parametrized(MODULE)
def test_a_module_that_is_run_exists(match: str, page: Path) -> None:
    assert _exists(match), f"{page}: python -m {match}"
    if match.startswith("pipeline.commands."):
        assert match.rpartition(".")[2] in list_commands(), f"{page}: {match} is no command"


@_parametrized(NAMED)
def test_a_module_that_is_named_exists(match: str, page: Path) -> None:
    assert ROOT.joinpath(*match.split(".")).is_dir() or _exists(match), f"{page}: {match}"


@_parametrized(COMMAND)
def test_the_options_of_a_command_exist(match: tuple[str, str], page: Path) -> None:
    command, words = match
    folder = ROOT / "pipeline" / "commands"
    code = (folder / f"{command}.py").read_text() + (folder / "completed_runs.py").read_text()
    known = set(re.findall(r'"--?([a-z][\w-]*)"', code)) | {"clean", "degraded"}
    assert set(OPTION.findall(words)) <= known, f"{page}: {command}{words}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if re.match(r"https?:|mailto:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file) if file else page
        assert target.exists(), f"{page}: {link}"
        if anchor:
            assert anchor in _anchors(target), f"{page}: {link}"


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@_parametrized(TEST_FILE)
def test_a_test_file_that_is_named_exists(match: str, page: Path) -> None:
    assert list(ROOT.glob(match)), f"{page}: {match}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_that_were_removed_are_not_used(page: Path) -> None:
    assert not REMOVED.findall(page.read_text())
