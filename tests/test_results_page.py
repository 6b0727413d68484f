"""Every command of docs/explanation/protocol.md has valid parameters, as far as shows without photos."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.plan import check_names, check_numbers
from pipeline.settings.params import load_params

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "explanation" / "protocol.md").read_text().replace("\\\n", " ")
COMMANDS = re.findall(r"^uv run dvc exp run (.*)$", PAGE, re.MULTILINE)
FEWEST = 1


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    from dvc.utils.hydra import apply_overrides

    monkeypatch.chdir(tmp_path)
    path, words = Path("params.yaml"), shlex.split(command)
    targets = [] if words[0] == "-S" else [words.pop(0)]
    assert words[::2] == ["-S"] * (len(words) // 2)
    shutil.copyfile(ROOT / "params.camvid.yaml", path)
    apply_overrides(path, words[1::2])
    params = load_params(path)
    check_names(params)
    check_numbers(params)
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    assert {target.partition("@")[0] for target in targets} <= set(stages)


def test_all_commands_are_found() -> None:
    assert len(COMMANDS) >= FEWEST
