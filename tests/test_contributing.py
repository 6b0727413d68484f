"""The recipes of CONTRIBUTING.md, followed to the letter in a copy of the whole project."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from clones import LEFT_OUT
from dvc.utils.hydra import apply_overrides
from recipe_examples import EXAMPLES, Edit

from pipeline.code import code_digests
from pipeline.settings.params import load_params

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
RECIPES = dict(re.findall(r"^## Add (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
FILES_TOUCHED = {"a degradation": 3, "a loss": 3, "a restorer": 3, "a data source": 3, "a task": 4, "a metric": 3}
NEVER_TOUCHED = ("dvc.yaml", "params", "pipeline/settings/", "docs/", "benchmarks/")

# Test modules about tables and names, which run whole.
WHOLE_MODULES = (
    "test_params",
    "test_restorer_params",
    "test_grammar",
    "test_datasets_page",
    "test_degradation_sheet",
    "test_degradation_chains",
    "test_dvc",
    "test_code",
)
# What the documents say about code and parameters. No recipe touches a page, so the other tests of pages are left out.
PAGES = "test_documents"
OF_PAGES = ("the_parameters_that_a_command_changes_are_valid", "the_pages_that_code_and_settings_name_exist")
# Contract tests that are too slow for a test within a test, on everything but the new plug-ins.
TOO_SLOW = ("training_twice", "nothing_is_written", "any_size_and_frozen", "features_carry", "onnx")
# Tests that run DVC on a project of their own.
OF_DVC = ("a_downloaded_archive", "dvc_keeps_its_index")
# What a change of one file runs: a case for every file, of which those of the new modules are chosen. That the digests
# of all others stay the same is tested above.
CASE_OF_A_FILE = "a_change_runs_these_stages"
# The copy's tests, then the stage `plan` with the new names; one process, since each imports torch.
TESTS_AND_PLAN = """
import sys
from pathlib import Path
import pytest
failed = pytest.main(["-n0", *sys.argv[1:]])
Path("chosen.yaml").replace("params.yaml")
from pipeline import plan
outs = "--needs p/needs.json --checked p/ok.json --tasks p/tasks --restorer p/restorer.json --quality p/quality.json"
sys.argv = ["plan", *outs.split(), "--weights", "weights", "--dag", "dvc.yaml"]
plan.main()
sys.exit(failed)
"""


def _steps(recipe: str) -> list[str]:
    """The texts of the numbered steps, which are numbered from 1 on."""
    steps = re.findall(r"^(\d+)\. (.*?)(?=^\d+\. |^\n|\Z)", RECIPES[recipe], re.MULTILINE | re.DOTALL)
    assert [int(number) for number, _ in steps] == list(range(1, len(steps) + 1))
    return [" ".join(text.split()).replace("<name>", EXAMPLES[recipe].name) for _, text in steps]


def _files(recipe: str) -> list[str]:
    """The files that a recipe tells to write or change."""
    steps = [step for step in _steps(recipe) if not step.startswith(("Run ", "Use it"))]
    name, stem = EXAMPLES[recipe].name, EXAMPLES[recipe].stem
    files = [file for step in steps for file in re.findall(r"`([\w./-]+\.(?:py|yaml|md))`", step)]
    return [file.replace(f"/{name}.py", f"/{stem}.py") for file in files]


def _test_modules(recipe: str) -> list[str]:
    """The test modules that a recipe tells to run."""
    (command,) = re.findall(r"`uv run pytest ([^`]*)`", " ".join(_steps(recipe)))
    return str(command).split()


def _overrides(recipe: str) -> list[str]:
    """What the last step gives to `dvc exp run -S`."""
    commands = re.findall(r"`uv run dvc exp run ([^`]*)`", _steps(recipe)[-1])
    return [word for command in commands for word in shlex.split(command) if word != "-S"]


def _edited(text: str, edits: list[Edit]) -> str:
    for old, new in edits:
        if old:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        else:
            text += new
    return text


def _git(folder: Path, *arguments: str) -> list[str]:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def _copy(target: Path) -> Path:
    """A copy of the project without what it has made, in a git index of its own."""
    shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*LEFT_OUT, ".*_cache"))
    _git(target, "init", "-q")
    _git(target, "add", "--all")
    return target


def _follow(recipe: str, copy: Path) -> list[str]:
    """Write an example's files; return those that git then sees as new or changed."""
    example = EXAMPLES[recipe]
    (copy / _files(recipe)[0]).write_text(example.module)
    for file, edits in example.edits.items():
        (copy / file).write_text(_edited((copy / file).read_text(), edits))
    touched = _git(copy, "ls-files", "--modified", "--others", "--exclude-standard")
    _git(copy, "add", "--all")
    return touched


def _test_and_plan(recipes: list[str], copy: Path) -> None:
    """Run the recipes' tests and those about tables and documents, then the stage `plan` with the new names."""
    shutil.copyfile(copy / "params.yaml", copy / "chosen.yaml")
    for recipe in recipes:
        if overrides := _overrides(recipe):
            apply_overrides(copy / "chosen.yaml", overrides)
    modules = dict.fromkeys(module for recipe in recipes for module in _test_modules(recipe))
    names = " or ".join([*WHOLE_MODULES, *OF_PAGES, "every", "unknown", *(EXAMPLES[recipe].name for recipe in recipes)])
    stems = " or ".join(EXAMPLES[recipe].stem for recipe in recipes)
    chosen = f"({names}) and not ({' or '.join([*TOO_SLOW, *OF_DVC])}) and (not {CASE_OF_A_FILE} or {stems})"
    files = dict.fromkeys([*modules, *(f"tests/{module}.py" for module in (*WHOLE_MODULES, PAGES))])
    command = [sys.executable, "-c", TESTS_AND_PLAN, *files, "-v", "--color=no", "-p", "no:cacheprovider", "-k", chosen]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    passed = re.findall(r"^(\S+)::(\S.*?) PASSED", done.stdout, re.MULTILINE)
    for recipe in recipes:
        file, name = _test_modules(recipe)[0], EXAMPLES[recipe].name
        assert len([test for module, test in passed if module == file and name in test]) > 1, done.stdout
    assert {f"tests/{module}.py" for module in WHOLE_MODULES} <= {module for module, _ in passed}
    assert all(any(name in test for _, test in passed) for name in OF_PAGES)
    changed = {Path(test.partition("[")[2].rstrip("]")).stem for _, test in passed if CASE_OF_A_FILE in test}
    plug_ins = [recipe for recipe in recipes if recipe != "a metric"]  # that is an entry of another plug-in's table
    assert {EXAMPLES[recipe].stem for recipe in plug_ins} <= changed
    assert (copy / "p" / "restorer.json").exists()


def test_there_is_an_example_for_every_recipe() -> None:
    assert set(EXAMPLES) == set(RECIPES) == set(FILES_TOUCHED)


@pytest.mark.parametrize("recipe", EXAMPLES)
def test_a_recipe_names_its_files_and_all_but_the_new_module_exist(recipe: str) -> None:
    module, *others = _files(recipe)
    assert len({module, *others}) == 1 + len(others) == FILES_TOUCHED[recipe]
    assert not (ROOT / module).exists() and all((ROOT / file).is_file() for file in others)
    assert all((ROOT / file).is_file() for file in _test_modules(recipe))


@pytest.fixture(scope="module")
def touched(extended: Path) -> dict[str, list[str]]:
    """The files that each recipe touches in the copy, which then has the plug-ins of all recipes."""
    return {recipe: _follow(recipe, extended) for recipe in EXAMPLES}


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The copy in which the recipes are followed."""
    return _copy(tmp_path_factory.mktemp("recipes") / "project")


@pytest.mark.parametrize("recipe", EXAMPLES)
def test_a_recipe_touches_the_files_that_it_names_and_no_others(recipe: str, touched: dict[str, list[str]]) -> None:
    assert sorted(touched[recipe]) == sorted(_files(recipe))
    assert not [file for file in touched[recipe] if file.startswith(NEVER_TOUCHED) or file.endswith(".md")]


@pytest.mark.usefixtures("touched")
def test_plug_ins_that_are_added_change_no_digest_of_what_is_trained(extended: Path) -> None:
    params = load_params(ROOT / "params.yaml")
    before, after = (dict(code_digests(params, folder)) for folder in (ROOT, extended))
    added = {example.name for example in EXAMPLES.values()}
    changed = {name for name in after if after[name] != before.get(name) and name.partition("/")[2] not in added}
    assert changed == {name for example in EXAMPLES.values() for name in example.changed_code}


@pytest.mark.usefixtures("touched")
def test_the_recipes_are_complete(extended: Path) -> None:
    _test_and_plan(list(EXAMPLES), extended)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", EXAMPLES)
def test_a_recipe_is_complete_without_the_others(recipe: str, tmp_path: Path) -> None:
    copy = _copy(tmp_path / "project")
    _follow(recipe, copy)
    _test_and_plan([recipe], copy)
