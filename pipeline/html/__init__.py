"""report.html: everything that a report says in one file, which opens by a double click and asks no network."""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from data.manifest import Dataset
from pipeline.html import figures, ledger
from pipeline.html.origin import Origin
from pipeline.html.sliders import Slider
from pipeline.params import Params

HERE = Path(__file__).parent
# The first word that a verdict contains decides its colour; the verdict itself stands beside it.
TONES = (("doesn't help", "bad"), ("hurts", "bad"), ("can't", "open"), ("helps", "good"))


def page(
    params: Params, clean: Dataset, report: Path, verdicts: Sequence[str], origin: Origin, sliders: Sequence[Slider]
) -> str:
    """The page, from the CSV files of a report folder.

    Args:
        params: seed, level and number of resamples are named.
        clean: its name and evaluation split are named.
        report: the folder with the CSV files; those that the report does not have are left out.
        verdicts: sentences, the most important part.
        origin: commit, data and settings.
        sliders: pictures.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    tables = ledger.read_tables(report)
    numbers = {path.stem: pd.read_csv(path) for path in sorted(report.glob("*.csv"))}
    script = (HERE / "page.js").read_text()
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html.jinja").render(
        name=clean.info.name,
        split=clean.evaluation_split,
        images=clean.info.splits.get(clean.evaluation_split),
        params=params,
        style=Markup((HERE / "page.css").read_text()),
        script=Markup(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        verdicts=[(line, tone(line)) for line in verdicts],
        ledger=list(ledger.ledger(tables)),
        comparisons=ledger.comparisons(tables["gains"]),
        figures=list(_figures(numbers)),
        others=list(ledger.other_tables(tables)),
        origin=origin,
        sliders=_grouped(sliders),
        grids=sorted(path.name for path in (report / "pictures").glob("*.png")),
    )


def tone(verdict: str) -> str:
    """How a verdict is marked: good, bad, open, or plain where it has none of the words."""
    return next((name for word, name in TONES if word in verdict), "plain")


def _grouped(sliders: Sequence[Slider]) -> dict[tuple[str, str], list[Slider]]:
    groups: dict[tuple[str, str], list[Slider]] = {}
    for one in sliders:
        groups.setdefault((one.degradation, one.task), []).append(one)
    return groups


def _figures(numbers: dict[str, pd.DataFrame]) -> Iterator[tuple[str, list[figures.Picture]]]:
    made: list[tuple[str, Any, str]] = [
        ("Gains over the degraded images", figures.gain_bars, "gains"),
        ("How much of the loss is won back", figures.recovered, "gains"),
        ("Image quality against task gain", figures.quality_against_gain, "gains"),
        ("Image by image", figures.image_scatter, "images"),
        ("Training", figures.training_curves, "curves"),
    ]
    for title, draw, name in made:
        drawn = list(draw(numbers[name])) if name in numbers and len(numbers[name]) else []
        if drawn:
            yield title, drawn
