"""The commands as a group: the list, and that nothing imports them."""

import ast
from pathlib import Path

import pytest

from pipeline.commands import __main__ as commands

ROOT = Path(__file__).parents[1]
PACKAGE = "pipeline.commands"


def test_the_list_has_every_module_with_a_main(capsys: pytest.CaptureFixture[str]) -> None:
    modules = (ROOT / "pipeline" / "commands").glob("*.py")
    with_main = {path.stem for path in modules if "run_command(main)" in path.read_text()} | {"parallel"}
    assert set(commands.list_commands()) == with_main
    commands.main()
    text = capsys.readouterr().out
    for name, summary in commands.list_commands().items():
        assert f"  {name} " in text and summary in text and len(summary) < 120


def test_nothing_imports_the_commands() -> None:
    for package in ("data", "models", "pipeline"):
        for path in (ROOT / package).rglob("*.py"):
            if path.is_relative_to(ROOT / "pipeline" / "commands"):
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module:
                    modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                assert not any(module.startswith(PACKAGE) for module in modules), path
