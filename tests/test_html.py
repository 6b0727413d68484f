import io
import itertools
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data.dataset import Dataset, DatasetInfo, write_info
from data.images import write_image
from pipeline.reporting import html, tables
from pipeline.reporting.html import figures, ledger, origin
from pipeline.reporting.html.sliders import BUDGET, Sliders, extremes
from pipeline.reporting.tables import GAINS, RESULTS
from pipeline.running.digests import data_digest
from pipeline.settings.params import Params, Statistics, load_params
from pipeline.statistics.verdicts import verdict_table

ROOT = Path(__file__).parents[1]
EVIL = '<script>alert("x")</script>'
VOID = {"meta", "img", "input", "br", "link"}
VALUES = {"clean": 0.612345, "degraded": 0.201234, "pixel": 0.412348, EVIL: 0.398761}


class Page(HTMLParser):
    """What the tests need of a page: its elements in order, and the text of each table cell."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.numbers: list[tuple[str, str]] = []  # (data-value, text)
        self.words: list[str] = []
        self.feed(text)
        assert not self.open, "elements are not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = {name: value or "" for name, value in attrs}
        self.elements.append((tag, own))
        if tag not in VOID:
            self.open.append(tag)
        if "data-value" in own:
            self.numbers.append((own["data-value"], ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.open and self.open[-1] == "td" and self.elements[-1][1].get("data-value"):
            self.numbers[-1] = (self.numbers[-1][0], data)

    def all(self, tag: str) -> Iterator[dict[str, str]]:
        return (own for name, own in self.elements if name == tag)


def _rows() -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    results: list[dict[str, object]] = []
    gains: list[dict[str, object]] = []
    for task, metric in (("detection", "mAP50-95"), ("quality", "PSNR")):
        for variant, value in VALUES.items():
            row = {"task": task, "degradation": "fog", "variant": variant, "metric": metric}
            results.append({**row, "value": value, "ci_low": value - 0.1, "ci_high": value + 0.1, "n_images": 3})
            if variant != "degraded":
                gain = value - VALUES["degraded"]
                versus = {"versus": "degraded", "p_value": 0.0004, "recovered": gain / 0.411111}
                gains.append({**row, **versus, "gain": gain, "ci_low": gain - 0.05, "ci_high": gain + 0.05})
        gains.append({**row, "versus": "pixel", "gain": -0.013587, "ci_low": -0.02, "ci_high": 0.01, "p_value": 0.31})
    return results, gains


@pytest.fixture
def params() -> Params:
    loaded = load_params(ROOT / "params.tiny.yaml")
    return loaded.model_copy(update={"degradations": ["fog"], "tasks": ["detection"]})


@pytest.fixture
def report(tmp_path: Path) -> Path:
    folder = tmp_path / "report"
    folder.mkdir()
    results, gains = _rows()
    tables.write_table(results, RESULTS, folder / "results.csv")
    written = tables.write_table(gains, GAINS, folder / "gains.csv")
    verdicts = verdict_table(pd.DataFrame(results), written, Statistics(resamples=2000, level=0.95, margin=0.01))
    verdicts.to_csv(folder / "verdicts.csv", index=False, float_format="%.6g")
    curve = [{"degradation": "fog", "variant": EVIL, "step": s, "loss": 1 / s} for s in (1, 2, 3)]
    pd.DataFrame(curve).to_csv(folder / "curves.csv", index=False)
    scores = [("a", "degraded", 0.1), ("a", EVIL, 0.4), ("b", "degraded", 0.5), ("b", EVIL, 0.2)]
    images = [
        {"task": "detection", "degradation": "fog", "variant": v, "id": i, "metric": "F1", "score": s}
        for i, v, s in scores
    ]
    pd.DataFrame(images).to_csv(folder / "images.csv", index=False)
    classes = [{"task": "detection", "class": EVIL, "metric": "AP50", "value": 0.25, "ci_low": "", "ci_high": ""}]
    pd.DataFrame(classes).to_csv(folder / "classes.csv", index=False)
    return folder


@pytest.fixture
def render(make_dataset: Callable[..., Dataset], params: Params, report: Path) -> Callable[[], str]:
    clean, _ = make_dataset("clean", test=3), make_dataset("fog", test=3)
    write_info(clean.folder, DatasetInfo(EVIL, clean.info.classes, clean.info.splits, clean.info.source))
    sliders = Sliders(groups=1)
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(2)]
    sliders.add("fog", "detection", ["a", EVIL], {"degraded": noise, EVIL: noise, "clean": noise})

    def made() -> str:
        opened = Dataset.open(clean.folder)
        about = origin.describe(params, opened, clean.folder.parent)
        return html.page(params, opened, report, about, sliders.all)

    return made


def test_the_page_needs_nothing_from_elsewhere(render: Callable[[], str]) -> None:
    text = render()
    page = Page(text)
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            if name in attributes:
                assert attributes[name].startswith(("data:image/", "#")), (tag, name)
    assert not list(page.all("link")) and "@import" not in text and "url(" not in text
    assert "default-src 'none'" in next(
        own["content"] for own in page.all("meta") if "content" in own and "http-equiv" in own
    )
    targets = {own["id"] for _, own in page.elements if "id" in own}
    assert {own["href"][1:] for own in page.all("a")} <= targets


def test_names_from_the_data_are_text_and_never_markup(render: Callable[[], str]) -> None:
    text = render()
    page = Page(text)
    assert len(list(page.all("script"))) == 1  # ours
    assert EVIL not in text
    assert f"Does restoring help on {EVIL}?" in page.words
    for table in ("results", "classes"):
        cells = text.partition(f'data-table="{table}"')[2].partition("</table>")[0]
        assert "&lt;script&gt;" in cells
    assert any(EVIL in own.get("alt", "") for own in page.all("img"))


def test_pictures_have_words_and_headings_are_in_order(render: Callable[[], str]) -> None:
    page = Page(render())
    pictures = list(page.all("img"))
    assert len(pictures) >= 6 and all(own["alt"] for own in pictures)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    ranges = [own for own in page.all("input") if own["type"] == "range"]
    assert len(ranges) == 2 and len({own["aria-label"] for own in ranges}) == 2
    assert next(page.all("html"))["lang"] == "en"
    assert next(page.all("a"))["class"] == "skip"
    boxes = [own for own in page.all("div") if own.get("class") == "box"]
    assert boxes and all(own["tabindex"] == "0" and own["aria-label"] for own in boxes)


def test_numbers_are_those_of_the_csv_files(render: Callable[[], str], report: Path) -> None:
    page = Page(render())
    written = {
        name: pd.read_csv(report / f"{name}.csv", dtype=str, keep_default_na=False) for name in ("results", "gains")
    }
    expected = set(written["results"].value) | set(written["gains"].gain) | set(written["gains"].p_value)
    exact = {value for value, _ in page.numbers}
    assert expected <= exact
    for value, text in page.numbers:
        if text.startswith("<"):
            assert float(value) < 0.001
        else:
            shown = float(text.replace("\N{MINUS SIGN}", "-"))
            assert shown == pytest.approx(float(value), abs=0.5 * 10.0 ** -len(text.partition(".")[2]) + 1e-12)


def test_same_inputs_give_the_same_bytes_and_a_small_file(render: Callable[[], str]) -> None:
    first = render()
    assert first == render()
    assert len(first) < 1_000_000


def test_what_a_report_does_not_have_is_left_out(render: Callable[[], str], report: Path) -> None:
    for name in ("curves", "images", "classes"):
        (report / f"{name}.csv").unlink()
    results, gains = (pd.read_csv(report / f"{name}.csv") for name in ("results", "gains"))
    photos = (frame[(frame.task == "detection") & (frame.variant != "clean")] for frame in (results, gains))
    for name, frame in zip(("results", "gains"), photos, strict=True):
        frame.assign(**({"recovered": np.nan} if name == "gains" else {})).to_csv(report / f"{name}.csv", index=False)
    page = Page(render())
    assert "Image quality against task gain" not in page.words and "Training" not in page.words
    assert "By class" not in page.words and "How much of the loss is won back" not in page.words
    assert "Gains over the degraded images" in page.words


def test_figures_have_the_numbers_in_words_and_no_dates(report: Path) -> None:
    drawn = list(figures.gain_bars(pd.read_csv(report / "gains.csv")))
    assert [picture.title for picture in drawn] == ["detection: gain in mAP50-95"]
    assert "fog pixel +0.211" in drawn[0].alt and "fog clean +0.411" in drawn[0].alt
    assert drawn == list(figures.gain_bars(pd.read_csv(report / "gains.csv")))


def test_scatter_pairs_images_by_their_id(report: Path) -> None:
    images = pd.read_csv(report / "images.csv")
    shuffled = images.iloc[[3, 0, 2, 1]]
    assert "2 images" in next(figures.image_scatter(shuffled)).alt


def test_intervals_of_a_table_belong_to_their_numbers() -> None:
    row = "value,ci_low,ci_high,gain,gain_low,gain_high,metric\n0.5,0.4,0.6,0.1,-0.05,0.25,PSNR\n0.5,,,,,,mIoU\n"
    table = pd.read_csv(io.StringIO(row), dtype=str, keep_default_na=False).assign(n="8", empty="")
    made = ledger.plain_table("sizes", "By size", table)
    assert made.header == ["value", "gain", "metric", "n"]  # a column in which nothing stands is left out
    value, gain, _, count = made.rows[0]
    assert count.text == "8"
    assert (value.text, value.interval) == ("0.50", "0.40 to 0.60")
    assert (gain.text, gain.interval) == ("+0.10", "\N{MINUS SIGN}0.05 to +0.25")
    assert (made.rows[1][0].interval, made.rows[1][1].text) == ("", "")
    lone = pd.DataFrame(
        [{"quality_metric": "SSIM", "spearman": "-0.5", "ci_low": "-0.7", "ci_high": "-0.2", "n": "20"}]
    )
    words, spearman, count = ledger.plain_table("correlations", "", lone).rows[0]
    assert (words.text, words.exact, count.text) == ("SSIM", "", "20")
    assert spearman.interval == "\N{MINUS SIGN}0.700 to \N{MINUS SIGN}0.200"


def test_pictures_are_made_smaller_until_they_fit() -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (360, 480, 3), dtype=np.uint8) for _ in range(3)]
    columns = dict.fromkeys(("degraded", "pixel", "clean"), noise)
    ids = ["a", "b", "c"]
    sizes = {}
    for groups in (1, 10, 40, 100):
        sliders = Sliders(groups)
        sliders.add("fog", "detection", ids, columns)
        sizes[groups] = sum(len(uri) for one in sliders.all for uri in one.versions.values())
        assert sizes[groups] * groups <= BUDGET * 4 / 3 * 1.1, groups
        assert sliders.all and [one.image for one in sliders.all] == ids[: len(sliders.all)]
    assert sizes[1] > sizes[10] > sizes[40]


def test_extreme_images_are_in_the_page_as_far_as_they_fit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("fog-detection", "worst-fog-detection-pixel", "best-fog-detection-pixel", "best-a"):
        write_image(tmp_path / f"{name}.png", rng.integers(0, 256, (50, 60, 3), dtype=np.uint8))
    found = extremes(tmp_path)
    assert [one.name for one in found] == [
        "best-a.png",
        "best-fog-detection-pixel.png",
        "worst-fog-detection-pixel.png",
    ]
    assert found[2].title == "fog-detection-pixel: the images that lost most"
    assert len(extremes(tmp_path, budget=len(found[0].uri))) == 1 and not extremes(tmp_path, budget=0)


def test_digests_are_of_the_evaluated_splits(make_dataset: Callable[..., Dataset], params: Params) -> None:
    data, fog = make_dataset("clean", train=1, test=2), make_dataset("fog", **{"test@1": 2, "test@3": 2})
    found = origin.describe(params, data, data.folder.parent).data
    assert [(one.name, one.split, one.images) for one in found] == [
        ("clean", "test", 2),
        ("fog", "test@1", 2),
        ("fog", "test@3", 2),
    ]
    assert found[1].digest == data_digest(fog.folder / "test@1") != found[2].digest


def test_settings_are_those_that_took_part(params: Params) -> None:
    text = origin.settings_text(params)
    assert "restormer" not in text and "nafnet" in text
    assert "diffloss" in text and "mobilenet" not in text  # no segmentation among the tasks
