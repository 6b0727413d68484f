"""Where the numbers of a report come from."""

from collections.abc import Callable
from pathlib import Path

import pytest

from data.dataset import Dataset
from pipeline.reporting import origin
from pipeline.running.digests import data_digest
from pipeline.settings.params import Params, load_params

ROOT = Path(__file__).parents[1]


@pytest.fixture
def params() -> Params:
    loaded = load_params(ROOT / "params.tiny.yaml")
    return loaded.model_copy(update={"degradations": ["fog"], "tasks": ["detection"]})


def test_digests_are_of_the_evaluated_splits(make_dataset: Callable[..., Dataset], params: Params) -> None:
    data, fog = make_dataset("clean", train=1, test=2), make_dataset("fog", **{"test@1": 2, "test@3": 2})
    splits = origin.describe_origin(params, data, data.folder.parent).data
    assert [(split.dataset, split.split, split.images) for split in splits] == [
        ("clean", "test", 2),
        ("fog", "test@1", 2),
        ("fog", "test@3", 2),
    ]
    assert splits[1].digest == data_digest(fog.folder / "test@1") != splits[2].digest


def test_settings_are_those_that_took_part(params: Params) -> None:
    text = origin.settings_text(params)
    assert "restormer" not in text and "nafnet" in text
    assert "diffloss" in text and "mobilenet" not in text  # no segmentation among the tasks
