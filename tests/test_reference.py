"""The generated reference is current, and the schema of params.yaml accepts and rejects what the settings do."""

import copy
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.commands.reference import FOLDER, SCHEMA, generated_files, replace_parts
from pipeline.settings.params import Params
from pipeline.settings.schema import params_schema
from tests.json_schema import mistakes
from tests.test_params import FILES

ROOT = Path(__file__).parents[1]
MODELINE = f"# yaml-language-server: $schema={(FOLDER / SCHEMA).as_posix()}\n"


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((ROOT / FOLDER / SCHEMA).read_text())
    return content


def _content(name: str) -> Any:
    return YAML(typ="safe").load(ROOT / name)


def test_the_generated_files_are_current() -> None:
    for path, content in generated_files(ROOT / FOLDER).items():
        assert path.read_text() == content, f"{path}: run python -m pipeline.commands.reference"


def test_markers_that_are_missing_are_named() -> None:
    with pytest.raises(ValueError, match=r"page\.md: expected the lines <!-- begin tables -->"):
        replace_parts("page.md", "words", {"tables": ""})


@pytest.mark.parametrize("name", FILES)
def test_a_shipped_file_names_the_schema_and_meets_it(name: str, schema: dict[str, Any]) -> None:
    assert (ROOT / name).read_text().startswith(MODELINE)
    assert list(mistakes(_content(name), schema, schema)) == []


def test_a_change_for_one_run_keeps_the_line_that_names_the_schema(tmp_path: Path) -> None:
    from dvc.utils.hydra import apply_overrides

    path = tmp_path / "params.yaml"
    shutil.copyfile(ROOT / "params.yaml", path)
    apply_overrides(path, ["train_restorer.steps=7"])
    assert path.read_text().startswith(MODELINE) and "steps: 7" in path.read_text()


def test_every_key_has_a_description(schema: dict[str, Any]) -> None:
    silent = [key for key, part in _keys(schema) if not part.get("description") and "$ref" not in part]
    assert not silent, "describe them in the Attributes of the docstring of their Settings"


def _keys(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, part in schema.get("properties", {}).items():
        yield f"{path}{key}", part
        yield from _keys(part, f"{path}{key}.")
    below = [schema.get("items"), schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()]
    for part in [*schema.get("anyOf", []), *schema.get("oneOf", []), *below]:
        if isinstance(part, dict):
            yield from _keys(part, f"{path}*.")


CHANGES = [  # key, value, whether it is valid
    ("seed", -1, False),
    ("seed", "zero", False),
    ("sede", 0, False),
    ("tasks", ["detektion"], False),
    ("objectives", ["pixel + task", "frozen"], True),
    ("arms", ["diffloss-retrained", "clean-restored-diffloss"], True),
    ("arms", ["retrain"], False),
    ("degradations", ["rain", "my-chain"], True),
    ("data.source", "photos", False),
    ("data.longest_side", 32, False),
    ("data.yolo", {"name": "mine", "project": "data.yaml"}, True),
    ("data.yolo", {"project": "data.yaml"}, False),
    ("data.yolo", {"name": "mine", "projekt": "data.yaml"}, False),
    ("data.coco", {"name": "mine", "files": {"all": {"json": "a.json", "images": "a"}}}, True),
    ("data.coco", {"name": "mine", "files": {"all": {"json_file": "a.json", "images": "a"}}}, False),
    ("degrade.severity", {"random": [1, 3, 5]}, True),
    ("degrade.severity", 9, False),
    ("degrade.severity_of", {"fog": 2}, True),
    ("degrade.recipes", {"wet": [{"effect": "fog"}, {"effect": "rain"}]}, True),
    ("degrade.recipes", {"wet": [{"effect": "rayn"}]}, False),
    ("degrade.recipes", {"wet": []}, False),
    ("degrade.real", {"cam": {"kind": "paired", "folder": "dark"}}, True),
    ("degrade.real", {"cam": {"kind": "paird", "folder": "dark"}}, False),
    ("train_task.detection.weights", "weights/mine.pt", True),
    ("train_task.detection.image_size", 220, False),
    ("train_task.tracking", {}, False),
    ("losses.diffloss.strengh", 1.0, False),
    ("losses.diffloss.timesteps", [5, 300, 400], False),
    ("losses.late", {"base": "diffloss", "timesteps": [400, 900]}, True),
    ("losses.late", {"base": "diffloss", "timestep": [400, 900]}, False),
    ("losses.late", {"timesteps": [400, 900]}, False),
    ("losses.paper", {"timesteps": [400, 900]}, True),
    ("losses.paper", {"kind": "l1"}, False),
    ("train_restorer.restorer", "nafnett", False),
    ("train_restorer.nafnet.width", "16", False),
    ("train_restorer.steps_of", {"pixel": 300}, True),
    ("train_restorer.clip", None, True),
    ("train_restorer.validation.metric", "lpips", False),
    ("restore.tile", 16, False),
    ("statistics.level", 1.0, False),
    ("engine", "spark", False),
]


def _changed(name: str, key: str, value: Any) -> Any:
    """The content of a shipped file with another value."""
    content = _content(name)
    node = content
    *sections, last = key.split(".")
    for section in sections:
        node = node[section]
    node[last] = value
    return content


@pytest.mark.parametrize(("key", "value", "valid"), CHANGES, ids=[f"{key}={value}" for key, value, _ in CHANGES])
def test_the_schema_accepts_what_the_settings_accept(key: str, value: Any, valid: bool, schema: dict[str, Any]) -> None:
    content = _changed("params.yaml", key, value)
    assert (not any(mistakes(content, schema, schema))) == valid


@pytest.mark.parametrize("name", FILES)
def test_a_validator_of_editors_accepts_the_file_and_rejects_a_wrong_key_and_type(
    name: str, schema: dict[str, Any]
) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="needs `uv sync --group scale`")
    jsonschema.Draft7Validator.check_schema(schema)
    validator = jsonschema.Draft7Validator(schema)
    assert list(validator.iter_errors(_content(name))) == []
    for key, value in (("sede", 0), ("train_restorer.stepz", 5), ("seed", "zero"), ("train_restorer.steps", "many")):
        (error,) = validator.iter_errors(_changed(name, key, value))
        assert key.rpartition(".")[2] in f"{error.message} {error.json_path}"


def test_what_the_settings_reject_the_schema_rejects() -> None:
    schema = params_schema()
    content = _content("params.yaml")
    for section in ("restore", "statistics", "report", "tracking", "degrade", "train_prior"):
        for key in content[section]:
            changed = copy.deepcopy(content)
            changed[section][key] = {"UNKNOWN": "word"}
            with pytest.raises(ValueError, match=key):
                Params.model_validate(changed)
            assert any(mistakes(changed, schema, schema)), f"{section}.{key}"
