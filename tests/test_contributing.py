"""The recipes of CONTRIBUTING.md, followed to the letter in a copy of the project."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from recipe_examples import EXAMPLES

ROOT = Path(__file__).parents[1]
RECIPES = dict(re.findall(r"^## Add (.*?)\n(.*?)(?=^## |\Z)", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S))
MOST_STEPS = 6
LEFT_OUT = (".*", "artifacts", "work", "mlruns", "mlflow.db*", "redone", "deployed", "docs", "benchmarks")
# The recipe's tests, then its last step, then the stage `plan`; one process, since each imports torch.
TESTS_AND_PLAN = """
import sys
from pathlib import Path
import pytest
failed = pytest.main(["-n0", *sys.argv[1:]])
Path("chosen.yaml").replace("params.yaml")
from pipeline import plan
outs = "--needs p/needs.json --checked p/ok.json --tasks p/tasks --restorer p/restorer.json"
sys.argv = ["plan", *outs.split(), "--weights", "weights", "--dag", "dvc.yaml"]
plan.main()
sys.exit(failed)
"""


def _steps(recipe: str) -> list[str]:
    """The texts of the numbered steps, which are numbered from 1 on."""
    steps = re.findall(r"^(\d+)\. (.*?)(?=^\d+\. |\Z)", RECIPES[recipe], re.M | re.S)
    assert [int(number) for number, _ in steps] == list(range(1, len(steps) + 1))
    return [" ".join(text.split()) for _, text in steps]


def _files(step: str) -> list[str]:
    """The files that a step names: paths in backticks."""
    return re.findall(r"`([\w./<>-]+\.(?:py|yaml|md))`", step)


def _to_write(recipe: str) -> set[str]:
    """The files that a recipe tells to write before the new name is chosen."""
    steps = [step for step in _steps(recipe)[:-1] if not step.startswith("Run ")]
    assert all(_files(step) for step in steps), "every step names its files"
    return {file.replace("<name>", EXAMPLES[recipe].stem) for step in steps for file in _files(step)}


def _command(recipe: str) -> str:
    """The command that tests the new thing."""
    (command,) = re.findall(r"`uv run pytest ([^`]*)`", _steps(recipe)[-2])
    return str(command)


def _edited(text: str, edits: list[tuple[str, str]]) -> str:
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    return text


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the project."""
    return shutil.copytree(ROOT, tmp_path / "project", ignore=shutil.ignore_patterns(*LEFT_OUT))


def _follow(recipe: str, copy: Path) -> None:
    """Write the new module where the first step says, and make the edits."""
    example = EXAMPLES[recipe]
    (module,) = _files(_steps(recipe)[0])
    (copy / module.replace("<name>", example.stem)).write_text(example.module)
    for file, edits in example.edits.items():
        (copy / file).write_text(_edited((copy / file).read_text(), edits))


def _changed(copy: Path) -> set[str]:
    files = {path.relative_to(copy) for path in copy.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    return {
        file.as_posix()
        for file in files
        if not (ROOT / file).exists() or (ROOT / file).read_bytes() != (copy / file).read_bytes()
    }


def test_there_is_an_example_for_every_recipe() -> None:
    assert set(EXAMPLES) == set(RECIPES)
    for recipe in RECIPES:
        assert 0 < len(_steps(recipe)) <= MOST_STEPS
        assert _files(_steps(recipe)[-1]) == ["params.yaml"]


@pytest.mark.parametrize("recipe", EXAMPLES)
def test_every_file_that_a_recipe_names_is_there(recipe: str) -> None:
    files = {file for file in re.findall(r"[\w./<>-]+\.(?:py|yaml)\b", RECIPES[recipe]) if "<name>" not in file}
    assert files and not [file for file in files if not (ROOT / file).is_file()]


@pytest.mark.parametrize("recipe", EXAMPLES)
def test_a_recipe_names_the_files_that_have_to_be_written(recipe: str, copy: Path) -> None:
    _follow(recipe, copy)
    assert _changed(copy) == _to_write(recipe)


def test_the_recipes_are_complete(copy: Path) -> None:
    for recipe in EXAMPLES:
        _follow(recipe, copy)
    _test_and_choose(list(EXAMPLES), copy)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", EXAMPLES)
def test_a_recipe_is_complete_without_the_others(recipe: str, copy: Path) -> None:
    _follow(recipe, copy)
    _test_and_choose([recipe], copy)


def _test_and_choose(recipes: list[str], copy: Path) -> None:
    """Run the recipes' tests, then choose the new names in params.yaml and run the stage `plan`."""
    examples = [EXAMPLES[recipe] for recipe in recipes]
    text = (copy / "params.yaml").read_text()
    for example in examples:
        text = _edited(text, example.choice)
    (copy / "chosen.yaml").write_text(text)
    commands = [_command(recipe).split() for recipe in recipes]
    files = list(dict.fromkeys(file for command in commands for file in command))
    # Of the tests on all things of a kind, those on the new one.
    chosen = " or ".join(["code_dependencies", "shipped", "writer", *(f"({example.tests})" for example in examples)])
    line = [sys.executable, "-c", TESTS_AND_PLAN, *files, "-v", "--color=no", "-p", "no:cacheprovider", "-k", chosen]
    done = subprocess.run(line, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    passed = re.findall(r"^(\S+)::(\S+) PASSED", done.stdout, re.M)
    for example, command in zip(examples, commands, strict=True):
        assert len([test for file, test in passed if file == command[0] and example.name in test]) > 1, done.stdout
    assert ("tests/test_dvc.py", "test_code_dependencies_are_the_imports[plan]") in passed
    assert (copy / "p" / "restorer.json").exists()
