"""What a report says: the one description that report.md and report.html are rendered from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from data.dataset import Dataset
from pipeline.metrics import find_metric
from pipeline.reporting import severity_tables, table_views
from pipeline.reporting.document import (
    Block,
    Bullets,
    Cell,
    Comparison,
    Document,
    Figures,
    Item,
    Paragraph,
    PictureFile,
    PictureFiles,
    Section,
    Table,
    Verbatim,
)
from pipeline.reporting.figures import draw_figures
from pipeline.reporting.origin import Origin
from pipeline.reporting.tables import Groups
from pipeline.reporting.verdict_section import verdict_section
from pipeline.settings.data import RandomSeverity
from pipeline.settings.params import Params

Tables = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Pictures:
    """The pictures of a report: of predictions, of extreme images, and the scatter plots of images."""

    comparisons: Sequence[Comparison] = ()
    extremes: Sequence[PictureFile] = ()
    scatter: Sequence[PictureFile] = ()
    quality: Sequence[PictureFile] = field(default=())


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
    numbers = {path.stem: pd.read_csv(path, dtype={"id": str, "reason": str}) for path in sorted(report.glob("*.csv"))}
    texts = table_views.read_texts(report)
    sections = [
        verdict_section(params, numbers, texts, groups),
        _figures(numbers),
        _pictures(pictures),
        _scores(params, texts),
        _more_tables(texts, pictures, left_out),
        _origin(params, origin),
    ]
    shown = [section for section in sections if section.blocks or section.sections]
    return Document(f"Does restoring help on {clean.info.name}?", _summary(params, clean, numbers["results"]), shown)


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


def _figures(numbers: Tables) -> Section:
    parts = [Section(heading, [Figures(figures)]) for heading, figures in draw_figures(numbers).items()]
    return Section("Figures", anchor="figures", sections=parts)


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
    if pictures.scatter:
        text = "Every point is a test image. Above the line, restoring helped it."
        parts.append(_picture_section("Scores of single images", text, pictures.scatter))
    return Section("Pictures", blocks, "pictures", parts)


def _picture_section(title: str, text: str, files: Sequence[PictureFile]) -> Section:
    return Section(title, [Paragraph(text, note=True), PictureFiles(files)])


def _scores(params: Params, texts: Tables) -> Section:
    notes = [
        "Clean images are the ceiling, degraded ones the floor. Recovered = (variant - degraded) / (clean - degraded), "
        "with Fieller's interval.",
        "Each number stands with its interval. The exact numbers are in results.csv and gains.csv.",
        "mAP is COCO's, from stored predictions (faster-coco-eval). mIoU is over the whole split, without the ignored "
        "index; absent classes do not count.",
        "PSNR is the mean over images. SSIM is scikit-image's with a Gaussian window.",
    ]
    parts = [Section(table.caption, [table]) for table in table_views.score_tables(texts)]
    baselines = table_views.baseline_table(texts)
    if baselines:
        parts.append(Section("Against the baselines", [Bullets(_baseline_notes(params), note=True), baselines]))
    return Section("Scores and gains", [Bullets([Item(text) for text in notes], note=True)], "scores", parts)


def _baseline_notes(params: Params) -> list[Item]:
    pixel = params.pixel_objectives
    texts = [f"{' and '.join(pixel)}: a restorer with the pixel loss alone."] if pixel else []
    texts += [
        "degraded-retrained: the task's network trained once on degraded images, without any restorer.",
        "Empty cells: the data have no interval. The reason is in gains.csv.",
        "clean-restored-... against clean: the harm that a restorer does to clean images.",
    ]
    return [Item(text) for text in texts]


def _more_tables(texts: Tables, pictures: Pictures, left_out: Mapping[str, str]) -> Section:
    existing = {name: table for name, table in texts.items() if len(table)}
    parts = []
    if "robustness" in existing:
        text = (
            "mPC: mean over the degradations, and their severities, of the same clean images. rPC = mPC / clean. All "
            "numbers: robustness.csv."
        )
        parts.append(_table_section("Over all degradations", text, existing, "robustness"))
    if "severities" in existing:
        overview = table_views.severity_overview(existing["severities"])
        if overview:
            text = "Gains in the complete table are over the degraded images of the same severity."
            parts.append(_table_section("By severity", text, existing, "severities", overview))
    if "crossovers" in existing:
        overview = severity_tables.crossover_overview(existing["crossovers"])
        text = (
            "The mildest and the most severe degradation at which a variant scores better than the degraded images, "
            "interpolated between the measured ones. The intervals are not corrected for their number."
        )
        parts.append(_table_section("Where restoring starts and stops to help", text, existing, "crossovers", overview))
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
    if "correlations" in existing:
        parts.append(_correlations(existing, pictures, left_out))
    if "costs" in existing:
        text = "Measured where the stages ran: other machines give other times."
        parts.append(_table_section("Costs on this machine", text, existing, "costs"))
    return Section("More tables", anchor="tables", sections=parts)


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


def _origin(params: Params, origin: Origin) -> Section:
    commit = origin.commit or "none, this was not run in a git repository"
    experiment = f"; DVC experiment {origin.experiment}" if origin.experiment else ""
    changed = " Files differed from that commit: the settings below are those that counted."
    text = f"Commit: {commit}{experiment}.{changed if origin.commit.endswith('-dirty') else ''}"
    repeats = params.train_restorer.repeats
    seeds = f"{params.seed} is the only seed: images, weights, batches and resamples draw from streams named after it."
    if repeats > 1:
        seeds += f" Each restorer was trained {repeats} times, with seeds drawn from it."
    rows = [
        [Cell(part.dataset), Cell(part.split), Cell(f"{part.images}", f"{part.images}"), Cell(part.digest)]
        for part in origin.data
    ]
    data = Table("data", "Digests of the data", ["data", "split", "images", "SHA-256, first 16 digits"], rows)
    checkout = f"git checkout {origin.commit.removesuffix('-dirty') or 'COMMIT'}"
    steps = "With these settings in params.yaml. DVC takes what has not changed from its cache."
    parts = [
        Section("Seeds", [Paragraph(seeds)]),
        Section("Data", [data]),
        Section(
            "How to reproduce it", [Paragraph(steps), Verbatim("Commands", f"{checkout}\nuv sync\nuv run dvc repro")]
        ),
        Section("Settings", [Verbatim("Settings", origin.settings)]),
    ]
    return Section("Origin", [Paragraph(text)], "origin", parts)
