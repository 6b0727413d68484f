"""The first section of a report: a matrix with the answer, one of the arms, a strip of pictures, and the limits."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from pipeline.metrics import ObjectScoring, find_metric, get_scoring, main_metric
from pipeline.reporting.answers import (
    TONES,
    CellAnswer,
    caveats,
    cell_answers,
    chosen_here,
    overall_answer,
    overall_tone,
    which_loss,
)
from pipeline.reporting.document import (
    Block,
    Bullets,
    Cell,
    Comparison,
    Item,
    Paragraph,
    Section,
    Slider,
    Strip,
    Table,
)
from pipeline.reporting.table_views import Texts, shown
from pipeline.reporting.tables import Groups
from pipeline.settings.grammar import CLEAN, DEGRADED, FROZEN
from pipeline.settings.params import Params
from pipeline.statistics import verdicts
from pipeline.statistics.correlations import image_gains
from pipeline.statistics.neighbours import video_cautions

KEYS = ("task", "degradation", "variant", "metric")
ARMS = (
    "Arms: task networks that were retrained, or trained with the restorer, against the degraded images; restored "
    "clean images against the clean ones."
)


def answer_item(table: pd.DataFrame, objectives: Sequence[str]) -> Item:
    """The answer of the run in one or two sentences.

    Args:
        table: verdicts.csv.
        objectives: of the restorers.
    """
    cells = cell_answers(table, objectives)
    sentences = [overall_answer(cells), which_loss(table, objectives)]
    return Item(" ".join(sentence for sentence in sentences if sentence), overall_tone(cells))


def answer_section(
    params: Params,
    numbers: Mapping[str, pd.DataFrame],
    texts: Texts,
    groups: Groups,
    comparisons: Sequence[Comparison],
    summary: str,
) -> Section:
    """Matrix, pictures, sentences, limits and cautions.

    Args:
        params: objectives and settings.
        numbers: the CSV files of the report by name.
        texts: the same files, every cell as its text.
        groups: of the images of each degradation, by their ids.
        comparisons: the pictures of predictions, of which one is shown.
        summary: what was evaluated.
    """
    cells = cell_answers(numbers["verdicts"], params.objectives)
    blocks: list[Block] = [answer_matrix(cells, texts, params.objectives)]
    if params.arms:
        blocks += [Paragraph(ARMS, note=True), arms_matrix(cells, texts, params.arms)]
    strip = choose_strip(comparisons, numbers.get("images"), params.objectives)
    if strip:
        blocks.append(strip)
    limits = [Item(text) for text in (*caveats(numbers["verdicts"], params.objectives), *chosen_here(cells))]
    blocks += [Paragraph(summary, note=True), *([Bullets(limits, note=True)] if limits else [])]
    parts = [Section("In words", [Bullets([Item(cell.sentence, cell.tone) for cell in cells], verdicts=True)])]
    cautions = [*verdicts.unequal_steps(params), *verdicts.cautions(numbers["gains"])]
    if "images" in numbers:
        cautions += video_cautions(params, numbers["images"], groups)
    if cautions:
        parts.append(Section("Cautions", [Bullets([Item(text) for text in cautions])]))
    return Section("Answer", blocks, "answer", parts)


def answer_matrix(cells: Sequence[CellAnswer], texts: Texts, objectives: Sequence[str]) -> Table:
    """One row for each task and degradation: the scores, each objective's gain and verdict, and the share recovered."""
    scores, verdict_texts = _by_variant(texts["results"]), _verdicts_against(DEGRADED, texts)
    rows = []
    for cell in cells:
        metric = main_metric(cell.task).name
        row = [Cell(cell.task, label=metric), Cell(cell.degradation)]
        for variant in (CLEAN, DEGRADED):
            score = scores.get((cell.task, cell.degradation, variant, metric), {})
            row.append(_score(score.get("value", ""), metric))
        for objective in objectives:
            key = (cell.task, cell.degradation, objective, metric)
            row.append(_gain(scores.get(key, {}).get("value", ""), metric, verdict_texts.get(key, {})))
        best = verdict_texts.get((cell.task, cell.degradation, cell.best["variant"], metric), {})
        row.append(_recovered(best))
        rows.append(row)
    header = ["task", "degradation", CLEAN, DEGRADED, *objectives, "loss recovered"]
    return Table("results", "Scores, gains over the degraded images, verdicts", header, rows, cards=True)


def arms_matrix(cells: Sequence[CellAnswer], texts: Texts, arms: Sequence[str]) -> Table:
    """One row for each task and degradation: each arm's score, its gain over its baseline, and its verdict."""
    scores, over_degraded = _by_variant(texts["results"]), _verdicts_against(DEGRADED, texts)
    verdict_texts = over_degraded | _verdicts_against(CLEAN, texts)
    rows = []
    for cell in cells:
        metric = main_metric(cell.task).name
        row = [Cell(cell.task, label=metric), Cell(cell.degradation)]
        for arm in arms:
            key = (cell.task, cell.degradation, arm, metric)
            row.append(_gain(scores.get(key, {}).get("value", ""), metric, verdict_texts.get(key, {})))
        rows.append(row)
    return Table("results", "Scores, gains and verdicts of the arms", ["task", "degradation", *arms], rows, cards=True)


def _by_variant(table: pd.DataFrame) -> dict[tuple[str, ...], dict[str, str]]:
    """The rows of a table by task, degradation, variant and metric."""
    return {tuple(row[name] for name in KEYS): row for row in table.to_dict("records")}


def _verdicts_against(baseline: str, texts: Texts) -> dict[tuple[str, ...], dict[str, str]]:
    return _by_variant(texts["verdicts"][texts["verdicts"].versus == baseline])


def _score(text: str, metric: str) -> Cell:
    return Cell(shown(text, metric), text) if text else Cell("")


def _gain(score: str, metric: str, row: Mapping[str, str]) -> Cell:
    """A restored score, with its gain below it, coloured by its verdict."""
    cell = _score(score, metric)
    if not row.get("gain"):
        return replace(cell, label=row["verdict"], tone=TONES[row["verdict"]]) if row.get("verdict") else cell
    gain, *ends = (_signed(row[name], metric) for name in ("gain", "ci_low", "ci_high") if row[name])
    interval = f"{gain}, {' to '.join(ends)}" if ends else gain
    return Cell(cell.text, score, interval, row["verdict"], TONES[row["verdict"]])


def _signed(text: str, metric: str) -> str:
    """With a sign, and the digits of a score: those of the tables below would not fit."""
    return f"{float(text):+.{find_metric(metric).digits}f}".replace("-", "\N{MINUS SIGN}")


def _recovered(row: Mapping[str, str]) -> Cell:
    """The share of the loss that the best objective recovered."""
    if not row.get("recovered"):
        return Cell("")
    ends = [f"{100 * float(row[end]):.0f}" for end in ("recovered_low", "recovered_high") if row[end]]
    interval = f"{' to '.join(ends)} %".replace("-", "\N{MINUS SIGN}") if ends else ""
    share = f"{100 * float(row['recovered']):.0f} %".replace("-", "\N{MINUS SIGN}")
    return Cell(share, row["recovered"], interval, "" if row["variant"] == FROZEN else f"by {row['variant']}")


def choose_strip(
    comparisons: Sequence[Comparison], images: pd.DataFrame | None, objectives: Sequence[str]
) -> Strip | None:
    """The picture of the first task with boxes: of the images with sliders, the one whose gain is the most usual.

    That is the image whose gain, the mean over the objectives, is nearest to the mean of all images.
    """
    with_pictures = [comparison for comparison in comparisons if comparison.sliders]
    if not with_pictures:
        return None
    with_boxes = [entry for entry in with_pictures if issubclass(get_scoring(entry.task), ObjectScoring)]
    comparison = (with_boxes or with_pictures)[0]
    slider = comparison.sliders[0]
    known: list[Slider] = []
    if images is not None:
        scores = images[(images.task == comparison.task) & (images.degradation == comparison.degradation)]
        gains = image_gains(scores, objectives)
        of_image = gains.assign(id=gains.id.astype(str).str.split("/").str[-1]).groupby("id").gain.mean()
        known = [entry for entry in comparison.sliders if math.isfinite(of_image.get(entry.image, math.nan))]
        usual = float(np.nanmean(of_image)) if known else math.nan
        slider = min(known, key=lambda entry: abs(of_image[entry.image] - usual), default=slider)
    chosen = "the one whose gain is nearest to the mean" if known else "the first: none has a gain"
    title = (
        f"{comparison.task} on {comparison.degradation}, image {slider.image}: of the test images shown below, {chosen}"
    )
    return Strip(title, comparison, slider)
