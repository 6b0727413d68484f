"""What a report says: the one description that report.md and report.html are rendered from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from data.dataset import Dataset
from pipeline.metrics import find_metric
from pipeline.reporting import figures, table_views
from pipeline.reporting.answer_section import answer_item, answer_section
from pipeline.reporting.document import (
    Block,
    Bullets,
    Comparison,
    Document,
    Figure,
    Figures,
    Item,
    Paragraph,
    PictureFile,
    PictureFiles,
    Section,
    Table,
)
from pipeline.reporting.losses_section import losses_section
from pipeline.reporting.method_section import method_section
from pipeline.reporting.origin import Origin
from pipeline.reporting.severity_section import severity_section
from pipeline.reporting.tables import Groups
from pipeline.running.atomic_outputs import read_table
from pipeline.settings.data import RandomSeverity
from pipeline.settings.params import Params

Tables = Mapping[str, pd.DataFrame]
Drawn = Mapping[str, Sequence[Figure]]  # figures by heading


@dataclass(frozen=True)
class Pictures:
    """The pictures of a report: of predictions, of extreme images, and of quality against gain, image by image."""

    comparisons: Sequence[Comparison] = ()
    extremes: Sequence[PictureFile] = ()
    quality: Sequence[PictureFile] = ()


def describe_report(
    params: Params,
    clean: Dataset,
    report: Path,
    groups: Groups,
    origin: Origin,
    pictures: Pictures,
    left_out: Mapping[str, str],
) -> Document:
    """The report on a run.

    Args:
        params: the settings of the run.
        clean: the clean dataset.
        report: the folder with the CSV files; all but results, gains and verdicts may be absent.
        groups: of the images of each degradation, by their ids.
        origin: commit, data and settings.
        pictures: those that lie in the folder's pictures/.
        left_out: metrics of image quality that could not be measured, with the reason.
    """
    numbers = {path.stem: read_table(path, dtype={"id": str, "reason": str}) for path in sorted(report.glob("*.csv"))}
    texts = table_views.read_texts(report)
    drawn = figures.draw_figures(numbers)
    summary = _summary(params, clean, numbers["results"])
    trainings = {name: drawn[name] for name in (figures.TRAINING, figures.GRADIENT_RATIOS) if name in drawn}
    sections = [
        answer_section(params, numbers, texts, groups, pictures.comparisons, summary),
        losses_section(params, numbers, texts),
        severity_section(numbers, texts),
        _pictures(pictures),
        _gain_sources(texts, drawn),
        _quality(texts, drawn, pictures, left_out),
        _scores(texts, drawn),
        _costs(texts),
        method_section(params, numbers, trainings, origin),
    ]
    shown = [section for section in sections if section.blocks or section.sections]
    answer = answer_item(numbers["verdicts"], params.objectives)
    return Document(f"Does restoring help on {clean.info.name}?", answer, shown)


def _summary(params: Params, clean: Dataset, results: pd.DataFrame) -> str:
    split = clean.evaluation_split
    images = clean.info.splits.get(split)
    count = f", {images} images" if images is not None else ""
    settings, repeats = params.statistics, params.train_restorer.repeats
    sentences = [f"Data: {clean.info.name}, split {split}{count}."]
    if split != "test":
        sentences.append("There is no test split: these are validation images, never used to choose.")
    sentences.append(f"{_severity(params)}, seed {params.seed}.")
    grouped = results[results.n_groups < results.n_images]
    units = (
        f"{' or '.join(f'{n:.0f}' for n in grouped.n_groups.unique())} groups of images" if len(grouped) else "images"
    )
    intervals = f"Intervals: {100 * settings.level:g} %, paired bootstrap over {units} ({settings.resamples} resamples)"
    if repeats > 1:
        sentences.append(
            f"{intervals} and the variance between {repeats} trainings of each restorer, whose scores are averaged."
        )
    else:
        sentences.append(f"{intervals}. They hold for these trainings, not for other seeds.")
    return " ".join(sentences)


def _severity(params: Params) -> str:
    severity = params.degrade.severity
    degrade = params.degrade
    others: dict[str, str | int] = {n: value for n, value in degrade.severity_of.items() if n in params.degradations}
    for name, sweep in degrade.sweeps.items():
        if name in params.degradations:
            others[name] = f"{sweep.setting} at {len(sweep.values)} values"
    exceptions = f" ({', '.join(f'{name}: {value}' for name, value in others.items())})" if others else ""
    if isinstance(severity, int):
        return f"Severity {severity}{exceptions}"
    if isinstance(severity, RandomSeverity):
        return f"Severity drawn for each image from {', '.join(map(str, severity.random))}{exceptions}"
    return f"Mean over severities {', '.join(map(str, severity))}{exceptions}"


def _pictures(pictures: Pictures) -> Section:
    blocks: list[Block] = []
    parts = []
    if pictures.comparisons:
        text = (
            "What the task network predicts. The images are evenly spaced in the split; nobody picked them. In "
            "report.html, a bar separates two versions of an image: move it with the mouse, a finger or the arrow "
            "keys, and choose the version on each side."
        )
        blocks.append(Paragraph(text, note=True))
        parts += [Section(f"{block.degradation}: {block.task}", [block]) for block in pictures.comparisons]
    if pictures.extremes:
        text = (
            "The images whose score rose and fell most. The score is in the corner: F1 at IoU 0.5 and confidence 0.25, "
            "mIoU, or right or wrong. If a restorer was trained several times, these are the pictures of the first "
            "training."
        )
        parts.append(_picture_section("Images that gained and lost most", text, pictures.extremes))
    return Section("Pictures", blocks, "pictures", parts)


def _picture_section(title: str, text: str, files: Sequence[PictureFile]) -> Section:
    return Section(title, [Paragraph(text, note=True), PictureFiles(files)])


def _gain_sources(texts: Tables, drawn: Drawn) -> Section:
    existing = _existing(texts)
    parts = []
    if "classes" in existing:
        overview = table_views.class_overview(existing["classes"])
        text = (
            f"Gains over the degraded images. The overview has at most {table_views.MOST_CLASSES} classes of each "
            "task, those whose scores changed most."
        )
        parts.append(_table_section("By class", text, existing, "classes", overview))
    if "sizes" in existing:
        overview = table_views.size_overview(existing["sizes"])
        text = "COCO's sizes: areas up to 32², up to 96² and above, in pixels. Gains over the degraded images."
        parts.append(_table_section("By object size", text, existing, "sizes", overview))
    if "objects" in existing:
        parts.append(_objects(existing))
    text = "Every point is a test image. Above the line, restoring helped it."
    parts += _figure_section(drawn, figures.IMAGES, text)
    return Section("Where the gain comes from", anchor="sources", sections=parts)


def _quality(texts: Tables, drawn: Drawn, pictures: Pictures, left_out: Mapping[str, str]) -> Section:
    text = "The gain in image quality against the gain in the task's main metric, both over the degraded images."
    parts = _figure_section(drawn, figures.QUALITY_GAINS, text)
    existing = _existing(texts)
    if "correlations" in existing:
        parts.append(_correlations(existing, pictures, left_out))
    return Section("Quality against gain", anchor="quality", sections=parts)


def _scores(texts: Tables, drawn: Drawn) -> Section:
    text = "Each number stands with its interval. The exact numbers are in results.csv and gains.csv."
    parts = [*_figure_section(drawn, figures.GAINS), *_figure_section(drawn, figures.RECOVERED)]
    parts += [Section(table.caption, [table]) for table in table_views.score_tables(texts)]
    existing = _existing(texts)
    if "robustness" in existing:
        note = (
            "mPC: mean over the degradations, and their severities, of the same clean images. rPC = mPC / clean. All "
            "numbers: robustness.csv."
        )
        parts.append(_table_section("Over all degradations", note, existing, "robustness"))
    return Section("All scores", [Paragraph(text, note=True)], "scores", parts)


def _costs(texts: Tables) -> Section:
    if not len(texts.get("costs", ())):
        return Section("Costs")
    text = "Measured where the stages ran: other machines give other times."
    part = _table_section("Costs on this machine", text, texts, "costs")
    return Section("Costs", part.blocks, "costs")


def _existing(texts: Tables) -> dict[str, pd.DataFrame]:
    """The tables with rows."""
    return {name: table for name, table in texts.items() if len(table)}


def _figure_section(drawn: Drawn, heading: str, note: str = "") -> list[Section]:
    """A section with the figures of a heading; none if there are none."""
    if heading not in drawn:
        return []
    return [Section(heading, [*([Paragraph(note, note=True)] if note else []), Figures(drawn[heading])])]


def _table_section(title: str, text: str, tables: Tables, name: str, overview: Table | None = None) -> Section:
    """A section with a note, an overview if there is one, and the complete table."""
    rows = len(tables[name])
    complete = table_views.complete_table(name, f"{title}, complete", tables[name], counts=name == "objects")
    blocks: list[Block] = [Paragraph(text, note=True), *([overview] if overview else []), complete]
    if rows > len(complete.rows):
        note = f"The first {len(complete.rows)} of {rows} rows; {name}.csv has them all."
        blocks.append(Paragraph(note, note=True))
    return Section(title, blocks)


def _objects(tables: Tables) -> Section:
    texts = [
        "At a confidence of 0.25 and an IoU of 0.5.",
        "Invented: wrong detections with none of their class in that place on the degraded or the clean image.",
        "Cleared: wrong detections on the degraded image that are gone.",
        "Lost: objects found on the degraded image, missed now. Found again: the other way round.",
    ]
    section = _table_section("Objects invented, lost and found again", "", tables, "objects")
    return Section(section.title, [Bullets([Item(text) for text in texts], note=True), *section.blocks[1:]])


def _correlations(tables: Tables, pictures: Pictures, left_out: Mapping[str, str]) -> Section:
    metrics = list(dict.fromkeys(tables["correlations"].get("quality_metric", ())))
    higher = [name for name in metrics if find_metric(name).higher_is_better]
    lower = [name for name in metrics if not find_metric(name).higher_is_better]
    texts = [
        "Spearman's rank correlation of the gain in image quality with the gain in the task, both over the degraded "
        "images.",
        "Over images: every test image with every objective, with an interval from resampled images.",
        "Over variants: every objective (and degradation), with a p-value by permutation.",
        f"Better when higher: {', '.join(higher)}." if higher else "",
        f"Better when lower: {', '.join(lower)}. One that predicts the gain has a negative correlation."
        if lower
        else "",
        "natural and semantic are DiffLoss's terms, of some of the images. blur needs no reference "
        f"(scikit-image {version('scikit-image')}, blur_effect).",
        "These p-values are not corrected for their number.",
        *(f"{name} left out: {reason}." for name, reason in left_out.items()),
    ]
    section = _table_section("Do quality metrics predict the gain?", "", tables, "correlations")
    blocks: list[Block] = [Bullets([Item(text) for text in texts if text], note=True), *section.blocks[1:]]
    if pictures.quality:
        blocks.append(PictureFiles(pictures.quality))
    return Section(section.title, blocks)
