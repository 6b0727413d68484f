"""report.html with hostile names: the same elements and attributes as with harmless ones; their text is text."""

from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.dataset import Dataset, DatasetInfo
from pipeline.reporting import html, tables
from pipeline.reporting.html.origin import Data, Origin
from pipeline.reporting.html.sliders import Sliders
from pipeline.reporting.tables import GAINS, RESULTS
from pipeline.settings.params import Statistics, load_params
from pipeline.statistics.verdicts import verdict_table

pytestmark = pytest.mark.filterwarnings("ignore:constrained_layout")  # names as long as a figure is wide
ROOT = Path(__file__).parents[1]
HOSTILE = """'"><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}{% raw %}&amp;</title>-->]]>\\u003c"""
PLACES = ("name", "degradation", "variant", "class", "image", "metric", "commit", "experiment", "split", "settings")


class Structure(HTMLParser):
    """The elements of a page with the names of their attributes, and everything that is text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.values: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.values.extend(value or "" for _, value in attrs)

    def handle_data(self, data: str) -> None:
        self.values.append(data)


def _tables(folder: Path, words: dict[str, str]) -> None:
    results, gains = [], []
    variants = {"clean": 0.6, "degraded": 0.2, "pixel": 0.4, words["variant"]: 0.39}
    for task, metric in (("detection", words["metric"]), ("quality", "PSNR")):
        for variant, value in variants.items():
            row = {"task": task, "degradation": words["degradation"], "variant": variant, "metric": metric}
            results.append({**row, "value": value, "ci_low": value - 0.1, "ci_high": value + 0.1, "n_images": 3})
            if variant not in ("degraded", "clean"):
                entry = {"versus": "degraded", "p_value": 0.0004, "recovered": 0.5, "gain": value - 0.2}
                gains.append({**row, **entry, "ci_low": 0.1, "ci_high": 0.3})
    tables.write_table(results, RESULTS, folder / "results.csv")
    written = tables.write_table(gains, GAINS, folder / "gains.csv")
    verdict_table(pd.DataFrame(results), written, Statistics(resamples=2000, level=0.95, margin=0.01)).to_csv(
        folder / "verdicts.csv", index=False
    )
    keys = {"task": "detection", "degradation": words["degradation"], "metric": words["metric"]}
    curves = [
        {"degradation": words["degradation"], "variant": words["variant"], "step": s, "loss": 1 / s} for s in (1, 2)
    ]
    scores = [
        {**keys, "variant": variant, "id": id, "score": score}
        for variant, score in (("degraded", 0.1), (words["variant"], 0.4))
        for id in (words["image"], "b")
    ]
    classes = [
        {**keys, "variant": words["variant"], "class": words["class"], "value": 0.5, "ci_low": "", "ci_high": ""}
    ]
    for name, rows in (("curves", curves), ("images", scores), ("classes", classes)):
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)


def _page(folder: Path, words: dict[str, str]) -> str:
    folder.mkdir()
    _tables(folder, words)
    params = load_params(ROOT / "params.tiny.yaml")
    params = params.model_copy(update={"degradations": [words["degradation"]], "tasks": ["detection"]})
    splits = {words["split"]: 3, "test": 3}
    clean = Dataset(folder, DatasetInfo(words["name"], {"detection": [words["class"]]}, splits, {}))
    origin = Origin(
        words["commit"], words["experiment"], [Data(words["name"], words["split"], 3, "0")], words["settings"]
    )
    sliders = Sliders(groups=1)
    images = [np.zeros((48, 64, 3), np.uint8)] * 2
    columns = {"degraded": images, words["variant"]: images, "clean": images}
    sliders.add(words["degradation"], "detection", [words["image"], "b"], columns)
    return html.page(params, clean, folder, origin, sliders.all)


def _words(hostile: Iterable[str]) -> dict[str, str]:
    return {place: HOSTILE if place in hostile else f"harmless {place}" for place in PLACES}


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> Structure:
    """The page with harmless names."""
    return Structure(_page(tmp_path_factory.mktemp("page") / "harmless", _words(())))


@pytest.mark.parametrize("hostile", [PLACES[:3], PLACES[3:6], PLACES[6:], PLACES], ids=" ".join)
def test_hostile_names_change_nothing_but_text(tmp_path: Path, wanted: Structure, hostile: Iterable[str]) -> None:
    text = _page(tmp_path / "hostile", _words(hostile))
    page = Structure(text)
    assert page.elements == wanted.elements
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert any(HOSTILE in value for value in page.values), "it is shown as it is"
    assert "alert(1)</script>" not in text and "<img src=x" not in text
