"""params.yaml of any content is either read or refused in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from pipeline.plan import check_names, check_numbers
from pipeline.settings.params import ParamsError, load_params
from tests.properties import few, grafted, mutated, refused_well, to_bytes

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "params.tiny.yaml").read_text()
TREE = YAML(typ="safe").load(TEXT)
CAMVID = YAML(typ="safe").load((ROOT / "params.camvid.yaml").read_text())


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("params") / "params.yaml"


def _checked(file: Path) -> None:
    params = load_params(file)
    check_names(params)
    check_numbers(params)


@few
@given(content=mutated(TEXT) | st.text(max_size=60))
@example(content="seed: 2001-99-99")
@example(content="seed: !!bool x")
@example(content="[" * 3000)
@example(content="seed: " + "9" * 4400)
def test_any_text(file: Path, content: str) -> None:
    file.write_bytes(to_bytes(content))
    refused_well(lambda: _checked(file), ParamsError)


@few
@given(tree=grafted(TREE) | grafted(CAMVID))
def test_any_value_anywhere(file: Path, tree: Any) -> None:
    file.write_bytes(json.dumps(tree).encode())  # which is YAML, too
    refused_well(lambda: _checked(file), ParamsError)


@few
@given(content=st.binary(max_size=80))
def test_any_bytes(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    refused_well(lambda: load_params(file), ParamsError)
