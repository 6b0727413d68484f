"""The section of a report about its method: what the words mean, the trainings, and where the numbers come from."""

from collections.abc import Mapping, Sequence

import pandas as pd

from pipeline.reporting.document import Bullets, Cell, Figure, Figures, Item, Paragraph, Section, Table, Verbatim
from pipeline.reporting.origin import Origin
from pipeline.settings.grammar import is_retrained
from pipeline.settings.params import Params, Statistics
from pipeline.statistics.comparison import FEWEST_FOR_VERDICTS


def method_section(
    params: Params, numbers: Mapping[str, pd.DataFrame], figures: Mapping[str, Sequence[Figure]], origin: Origin
) -> Section:
    """Verdicts and metrics in words, training curves, seeds, data, commands and settings.

    Args:
        params: the settings of the run.
        numbers: the CSV files of the report by name.
        figures: of the trainings, by heading.
        origin: commit, data and settings.
    """
    tested = int(numbers["verdicts"].p_holm.notna().sum())
    parts = [
        Section("Verdicts", [Bullets(_verdict_notes(params.statistics, tested), note=True)]),
        Section("Metrics", [Bullets(_metric_notes(), note=True)]),
        *(Section(heading, [Figures(drawn)]) for heading, drawn in figures.items()),
        *_origin(params, origin),
    ]
    return Section("Method and settings", anchor="method", sections=parts)


def _verdict_notes(settings: Statistics, tested: int) -> list[Item]:
    texts = [
        f"Helps, hurts: the p-value, corrected for all {tested} comparisons with a verdict (Holm), is below "
        f"{1 - settings.level:.2g}.",
        f"Doesn't help: the interval ends below {settings.margin:g}, the smallest gain worth having.",
        "Can't tell: none of these.",
        "This training: the restorer was trained once. Another seed may give another result.",
        f"No verdict: the data have no interval, or there are fewer than {FEWEST_FOR_VERDICTS} trainings to estimate "
        "their variance from.",
        "All comparisons: verdicts.csv.",
    ]
    return [Item(text) for text in texts]


def _metric_notes() -> list[Item]:
    texts = [
        "Clean images are the ceiling, degraded ones the floor. Loss recovered = (variant - degraded) / (clean - "
        "degraded), with Fieller's interval.",
        "mAP is COCO's, from stored predictions (faster-coco-eval). mIoU is over the whole split, without the ignored "
        "index; absent classes do not count.",
        "PSNR is the mean over images. SSIM is scikit-image's with a Gaussian window.",
    ]
    return [Item(text) for text in texts]


def _origin(params: Params, origin: Origin) -> list[Section]:
    commit = origin.commit or "none, this was not run in a git repository"
    experiment = f"; DVC experiment {origin.experiment}" if origin.experiment else ""
    changed = " Files differed from that commit: the settings below are those that counted."
    text = f"Commit: {commit}{experiment}.{changed if origin.commit.endswith('-dirty') else ''}"
    repeats = params.train_restorer.repeats
    seeds = f"{params.seed} is the only seed: images, weights, batches and resamples draw from streams named after it."
    if repeats > 1:
        seeds += f" Each restorer was trained {repeats} times, with seeds drawn from it."
    if any(map(is_retrained, params.arms)):
        count = params.retraining.repeats
        seeds += f" Each task network of the arms was trained {count} time{'s' if count > 1 else ''}."
    rows = [
        [Cell(part.dataset), Cell(part.split), Cell(f"{part.images}", f"{part.images}"), Cell(part.digest)]
        for part in origin.data
    ]
    data = Table("data", "Digests of the data", ["data", "split", "images", "SHA-256, first 16 digits"], rows)
    checkout = f"git checkout {origin.commit.removesuffix('-dirty') or 'COMMIT'}"
    steps = "With the settings below in params.yaml. DVC takes what has not changed from its cache."
    commands = Verbatim("Commands", f"{checkout}\nuv sync\nuv run dvc repro")
    return [
        Section("Seeds", [Paragraph(seeds)]),
        Section("Data", [data]),
        Section("How to reproduce it", [Paragraph(text), Paragraph(steps), commands]),
        Section("Settings", [Verbatim("Settings", origin.settings)]),
    ]
