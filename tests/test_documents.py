"""The documents name what exists: modules, options, files, parameters and links."""

import re
import shlex
import shutil
from itertools import groupby, pairwise
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.commands.__main__ import list_commands
from pipeline.plan import check_names
from pipeline.settings.params import load_params

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
PACKAGES = "pipeline|benchmarks|tests|models|data"
MODULE = re.compile(rf"-m ((?:{PACKAGES})\.[\w.]+)")
NAMED = re.compile(r"`(pipeline\.(?:commands\.)?\w+)`")
REST = r"(?:\\\n|[^\n`|])*"  # of a command, continued lines included
COMMAND = re.compile(rf"-m pipeline\.commands\.(\w+)({REST})")
BENCHMARK = re.compile(rf"-m benchmarks\.(\w+)({REST})")
DVC = re.compile(r"(?:uv run |`)dvc ([a-z-]+)")
OVERRIDES = re.compile(rf"uv run dvc exp run ({REST})")
OPTION = re.compile(r"(?<=\s)--?([a-z][\w-]*)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
TARGET_OR_CODE = re.compile(r"(?<=\])\([^)]*\)|<https?:[^>]*>|`[^`]*`")
WIDTH = 100  # characters of a line of prose
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


@_parametrized(BENCHMARK)
def test_the_options_of_a_benchmark_exist(match: tuple[str, str], page: Path) -> None:
    module, words = match
    text = (ROOT / "benchmarks" / f"{module}.py").read_text()
    known = set(re.findall(r'"(?:--?)?([a-z][\w-]*)"', text))  # some are added in a loop over their names
    assert set(OPTION.findall(words)) <= known, f"{page}: {module}{words}"


@_parametrized(DVC)
def test_a_command_of_dvc_exists(match: str, page: Path) -> None:
    from dvc.cli.parser import get_main_parser

    (commands,) = (action.choices for action in get_main_parser()._actions if "repro" in (action.choices or {}))
    assert match in commands, f"{page}: dvc {match}"


def _overrides() -> dict[str, list[str]]:
    """What every `dvc exp run` of the documentation changes; those with placeholders and variables are left out."""
    found = {}
    for page in PAGES:
        for command in OVERRIDES.findall(page.read_text()):
            words = shlex.split(command.replace("\\\n", " "), comments=True)
            values = [value for option, value in pairwise(words) if option == "-S"]
            if values and not any(mark in command for mark in ("<", "$", "key=value")):
                found[f"{page.name}: {' '.join(values)}"] = values
    return found


@pytest.mark.parametrize("values", _overrides().values(), ids=_overrides())
def test_the_parameters_that_a_command_changes_are_valid(values: list[str], tmp_path: Path) -> None:
    from dvc.utils.hydra import apply_overrides

    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    apply_overrides(tmp_path / "params.yaml", values)
    params = load_params(tmp_path / "params.yaml")
    if not params.degrade.real:  # the plan also looks for the folders of real photos
        check_names(params)


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


def test_the_pages_that_code_and_settings_name_exist() -> None:
    folders = ("benchmarks", "data", "examples", "models", "pipeline", "tests", "tools")
    files = [*ROOT.glob("*.*"), *(path for folder in folders for path in (ROOT / folder).rglob("*.*"))]
    texts = {
        path: path.read_text() for path in files if path.suffix in (".py", ".yaml", ".toml", ".md", ".jinja", ".sh")
    }
    missing = {
        (path.name, page)
        for path, text in texts.items()
        for page in re.findall(r"\bdocs/[\w/-]+\.md\b", text)
        if not (ROOT / page).exists()
    }
    assert not missing


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = FENCE.sub("", page.read_text())
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@_parametrized(TEST_FILE)
def test_a_test_file_that_is_named_exists(match: str, page: Path) -> None:
    assert list(ROOT.glob(match)), f"{page}: {match}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_that_were_removed_are_not_used(page: Path) -> None:
    assert not REMOVED.findall(page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_of_prose_are_short(page: Path) -> None:
    """Tables, headings, blocks of code, code in a line and the targets of links may be longer."""
    lines = FENCE.sub("", page.read_text()).splitlines()
    prose = [line for line in lines if not line.lstrip().startswith(("|", "#", "<!--"))]
    assert not [line for line in prose if len(TARGET_OR_CODE.sub("", line)) > WIDTH]


def test_every_page_is_reached_from_the_readme() -> None:
    seen, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop().resolve()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        links = [link.partition("#")[0] for link in LINK.findall(page.read_text()) if ":" not in link]
        waiting += [page.parent / link for link in links if link]
    assert {page.resolve() for page in (ROOT / "docs").rglob("*.md")} <= seen


def test_the_citation_names_the_paper() -> None:
    citation = YAML(typ="safe").load(ROOT / "CITATION.cff")
    (paper,) = citation["references"]
    assert "DiffLoss" in paper["title"] and paper["year"] == 2024
    assert paper["identifiers"][0]["value"] == "arXiv:2406.19030"
    assert citation["version"] in (ROOT / "pyproject.toml").read_text()


FORMS = [ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml" for name in ("bug", "question")]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_an_issue_form_asks_for_parameters_lock_file_and_message(form: Path) -> None:
    fields = {field["id"]: field["attributes"]["label"] for field in YAML(typ="safe").load(form)["body"]}
    assert fields["params"] == "params.yaml" and fields["lock"] == "dvc.lock" and fields["message"] == "The message"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_whole(page: Path) -> None:
    """A blank line ends a table in Markdown: every block of rows has its header and its delimiters."""
    lines = FENCE.sub("", page.read_text()).splitlines()
    for is_table, block in groupby(lines, key=lambda line: line.lstrip().startswith("|")):
        if is_table:
            header, delimiters, *rows = block
            assert re.fullmatch(r"\s*\|(:?-+:?\|)+", delimiters), f"{page}: no header above {header}"
            cells = {len(re.findall(r"(?<!\\)\|", row)) for row in (header, delimiters, *rows)}
            assert len(cells) == 1, f"{page}: {header}"
