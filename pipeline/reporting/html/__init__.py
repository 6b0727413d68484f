"""report.html: everything that a report says in one file, which opens by a double click and asks no network."""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from data.dataset import Dataset
from pipeline.reporting.html import figures, ledger
from pipeline.reporting.html.origin import Origin
from pipeline.reporting.html.sliders import Slider, extremes
from pipeline.settings.params import Params
from pipeline.statistics.verdicts import HELPS, HURTS, NO_HELP, TOO_FEW, UNKNOWN, cautions, sentences, unequal_steps

HERE = Path(__file__).parent
# The first of these that a verdict contains decides its colour; the verdict itself stands beside it.
TONES = ((NO_HELP, "bad"), (HURTS, "bad"), (UNKNOWN, "open"), (TOO_FEW, "open"), (HELPS, "good"))


def page(params: Params, clean: Dataset, report: Path, origin: Origin, sliders: Sequence[Slider]) -> str:
    """The page, from the CSV files of a report folder.

    Args:
        params: seed, level and number of resamples are named.
        clean: its name and evaluation split are named.
        report: the folder with the CSV files; all but results, gains and verdicts may be absent.
        origin: commit, data and settings.
        sliders: pictures.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    tables = ledger.read_tables(report)
    numbers = {path.stem: pd.read_csv(path, dtype={"id": str}) for path in sorted(report.glob("*.csv"))}
    verdicts, own = numbers["verdicts"], params.statistics
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
        verdicts=[(line, tone(line)) for line in sentences(verdicts)],
        cautions=[
            *unequal_steps(params),
            *cautions(numbers["results"], numbers["gains"], len(verdicts), own),
        ],
        compared=len(verdicts),
        ledger=list(ledger.ledger(tables)),
        comparisons=ledger.comparisons(tables),
        figures=list(_figures(numbers)),
        others=list(ledger.other_tables(tables)),
        origin=origin,
        sliders=_grouped(sliders),
        extremes=extremes(report / "pictures"),
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
