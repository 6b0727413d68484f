"""dataset.json and manifest.csv of any content: images are made again from it, or it is refused in one line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data.dataset import Dataset, DatasetError, DatasetInfo, write_info
from data.degradations import DegradationError
from data.images import ImageError, write_image
from pipeline.commands.redo_image import redo_image
from pipeline.datasets.manifests import MANIFEST, ManifestError, read_manifest
from pipeline.datasets.recipes import recipe_of
from pipeline.degrade import degrade_dataset
from pipeline.settings.params import load_params
from tests.properties import anything, few, grafted, mutated, refused_well, to_bytes

ROOT = Path(__file__).parents[1]
INFO: dict[str, Any] = {
    "name": "toy",
    "classes": {"detection": ["a"]},
    "splits": {"train": 1, "test": 1},
    "source": {"source": "test"},
    "ignore_index": 255,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `build_manifests` makes, and a copy of the manifest as it was."""
    place = tmp_path_factory.mktemp("manifests")
    (place / "whole.csv").write_bytes(build_manifests(place).read_bytes())
    return place


def build_manifests(place: Path) -> Path:
    """A clean set of two images, and one degraded by two effects, whose manifest is returned."""
    for split in ("train", "test"):
        (place / "clean" / split / "images").mkdir(parents=True)
        write_image(place / "clean" / split / "images" / "0.png", np.full((32, 40, 3), 90, np.uint8))
    write_info(place / "clean", DatasetInfo(**INFO))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        settings = load_params(ROOT / "params.tiny.yaml").degrade
        own = settings.model_copy(update={"recipes": {"mine": [{"effect": "noise"}, {"effect": "jpeg"}]}})
        degrade_dataset(Dataset.open(place / "clean"), recipe_of(own, "mine"), own, 0, place / "mine")
    return place / "mine" / MANIFEST


def redo_all(folder: Path) -> None:
    clean = Dataset.open(folder / "clean")
    for row in read_manifest(folder / "mine").to_dict("records"):
        assert redo_image(clean, row).shape == (32, 40, 3)


REFUSALS = (ManifestError, DatasetError, DegradationError, ImageError)


@few
@given(data=st.data())
def test_manifests(folder: Path, data: st.DataObject) -> None:
    content = data.draw(mutated((folder / "whole.csv").read_text()) | st.text(max_size=60))
    (folder / "mine" / MANIFEST).write_bytes(to_bytes(content))
    refused_well(lambda: redo_all(folder), *REFUSALS)


@few
@given(
    data=st.data(),
    value=st.one_of(st.text(max_size=9), anything.map(json.dumps), st.sampled_from(["", "nan", "1e400"])),
)
def test_any_value_in_a_manifest(folder: Path, data: st.DataObject, value: str) -> None:
    import pandas as pd

    table = pd.read_csv(folder / "whole.csv", dtype=str)
    table.loc[1, data.draw(st.sampled_from(list(table.columns)))] = value.encode("utf-8", "replace").decode()
    table.to_csv(folder / "mine" / MANIFEST, index=False)
    refused_well(lambda: redo_all(folder), *REFUSALS)


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("described")


def _open(folder: Path) -> None:
    dataset = Dataset.open(folder)
    for split in dataset.info.splits:
        refused_well(lambda split=split: dataset.split(split), DatasetError)  # type: ignore[misc]
    assert dataset.evaluation_split and dataset.has_clean_images in (True, False)
    refused_well(lambda: dataset.info.classes_of("detection", "detection"), DatasetError)


@few
@given(tree=grafted(INFO) | anything)
@example(tree={**INFO, "splits": {"../..": 0}})
@example(tree={**INFO, "splits": ["test"]})
def test_descriptions(described: Path, tree: Any) -> None:
    (described / "dataset.json").write_text(json.dumps(tree))
    refused_well(lambda: _open(described), DatasetError)


@few
@given(content=mutated(json.dumps(INFO)).map(to_bytes) | st.binary(max_size=40))
def test_description_texts(described: Path, content: bytes) -> None:
    (described / "dataset.json").write_bytes(content)
    refused_well(lambda: _open(described), DatasetError)
