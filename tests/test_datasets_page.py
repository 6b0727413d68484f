"""Every preset and every example of docs/how-to/datasets.md, as far as it can be checked without the data."""

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from data.labels import DatasetError
from data.sources import load_source
from pipeline.plan import check_names, check_numbers
from pipeline.settings.data import Data
from pipeline.settings.params import load_params
from tests.outside_data import open_source

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "how-to" / "datasets.md").read_text()
VARIABLES = dict(re.findall(r'^([A-Z]+)="(.*)"$', PAGE, re.MULTILINE))
COMMANDS = [
    re.sub(r"\$([A-Z]+)", lambda match: VARIABLES[match[1]], command)
    for command in re.findall(r"^uv run dvc exp run (.*)$", PAGE, re.MULTILINE)
]
SECTIONS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
CITYSCAPES = 19


def _overrides(command: str) -> list[str]:
    words = shlex.split(command)
    assert words[::2] == ["-S"] * (len(words) // 2)
    return words[1::2]


def _name(command: str) -> str:
    found = re.search(r"name: ([\w-]+)", command)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("base", ["params.yaml", "params.photos.yaml"])
@pytest.mark.parametrize("command", COMMANDS, ids=[_name(command) for command in COMMANDS])
def test_a_preset_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, base: str) -> None:
    from dvc.utils.hydra import apply_overrides

    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    path = Path("params.yaml")
    shutil.copyfile(ROOT / base, path)
    apply_overrides(path, _overrides(command))
    params = load_params(path)
    for real in params.degrade.real.values():
        assert real.kind == "unpaired"
        Path(real.data.root).mkdir()  # the plan asks whether there is such a folder
    check_names(params)
    check_numbers(params)
    assert params.data.settings["name"] == _name(command)
    _look_for_it(params.data)
    for real in params.degrade.real.values():
        assert real.kind == "unpaired"
        _look_for_it(real.data)
        _have_the_same_classes(params.data, real.data)


def _have_the_same_classes(clean: Data, real: Data) -> None:
    ours, theirs = (load_source(data.source)(Path(), data.settings, 0).classes for data in (clean, real))
    assert ours == theirs


@pytest.mark.parametrize("section", SECTIONS, ids=[str(number) for number in range(len(SECTIONS))])
def test_an_example_is_valid(section: str) -> None:
    _look_for_it(Data.model_validate(YAML(typ="safe").load(section)["data"]))


def _look_for_it(data: Data) -> None:
    """The source accepts its settings, and then says in one line which of the files it does not find."""
    assert not Path(data.root).is_absolute()
    settings: dict[str, Any] = data.settings
    if data.source == "yolo":
        settings = settings | {"content": {"train": "images/train", "val": "images/val", "names": ["cat"]}}
    with pytest.raises(DatasetError, match=r"^nowhere[/:]") as caught:
        open_source(data.source, Path("nowhere"), settings).split_ids()
    assert "\n" not in str(caught.value)


def test_all_named_data_sets_have_a_preset() -> None:
    names = {_name(command) for command in COMMANDS}
    clean = {"coco", "voc", "voc-masks", "cityscapes", "foggy-cityscapes", "acdc", "camvid"}
    assert names == clean | {"voc-exdark", "voc-rtts", "cityscapes-acdc"}


def test_the_classes_of_cityscapes_are_the_same_everywhere() -> None:
    found = {match for command in COMMANDS for match in re.findall(r" classes: \[(.*?)\]", command)}
    lists = {match for match in found if match.startswith("road, sidewalk")}
    assert len(lists) == 1 and len(lists.pop().split(", ")) == CITYSCAPES
