"""Tables for report.md. Not a stage."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from data.dataset import Dataset
from pipeline.metrics import find_metric
from pipeline.settings.grammar import CLEAN
from pipeline.settings.degrade import RandomSeverity
from pipeline.settings.grammar import DEGRADED
from pipeline.settings.params import Params
from pipeline.statistics.verdicts import cautions, sentences, unequal_steps


def table(header: Iterable[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded so that it also reads in a terminal."""
    lines = [list(header), *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    padded = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([padded[0], rule, *padded[1:]])


def page(params: Params, clean: Dataset, tables: Mapping[str, pd.DataFrame], costs: pd.DataFrame) -> str:
    """report.md: verdicts, ledger, costs and pictures of one run."""
    results, gains, verdicts = tables["results"], tables["gains"], tables["verdicts"]
    split = clean.evaluation_split
    images = clean.info.splits[split]
    note = "" if split == "test" else " There is no test split: these are validation images, never used to choose."
    own = params.statistics
    level = f"{100 * own.level:g} %"
    weak = cautions(results, gains, len(verdicts), own)
    parts = [
        f"# Does restoring help on {clean.info.name}?",
        f"Data: `{clean.info.name}`, split `{split}`, {images} images.{note} {_severity(params)}, "
        f"seed {params.seed}. Intervals: {level}, paired bootstrap over images "
        f"({own.resamples} resamples){_trainings(params)}",
        "## Verdicts",
        "\n".join(f"- {line}" for line in sentences(verdicts)),
        f"*Helps* and *hurts*: the p-value, corrected for all {len(verdicts)} comparisons (Holm), is below "
        f"{1 - own.level:.2g}. *Doesn't help*: the interval ends below {own.margin:g}, the "
        "smallest gain worth having. *Too few resamples*: all of them agree, but so few cannot make a p-value small "
        "enough to stand the correction. The number of images is for a chance of 80 %. All of them: verdicts.csv.",
        *_list("## Cautions", [*unequal_steps(params), *weak]),
        "## Scores",
        _score_table(results, gains),
        "mAP is COCO's, from stored predictions (faster-coco-eval); mIoU is over the whole split, the ignored index "
        "left out, absent classes not counted; PSNR is the mean over images; SSIM is scikit-image's with a Gaussian "
        "window. *Recovered* = (variant - degraded) / (clean - degraded).",
        "## Against the rivals",
        f"{_pixel(params)}`degraded-retrained` is the task's network trained on "
        "degraded images, without any restorer; `clean` against `clean-restored-...` is the harm done to clean images.",
        _rival_table(verdicts),
        "## Over all degradations",
        "mPC: mean over the degradations (and their severities) of the same clean images; rPC = mPC / clean.",
        _robustness_table(tables["robustness"]),
        *_by_severity(tables["severities"]),
        "## Costs on this machine",
        table(costs.columns, costs.fillna("").astype(str).values.tolist()),
        "## Pictures",
        "\n\n".join(
            f"{degradation}, {task}:\n\n![{degradation} {task}](pictures/{degradation}-{task}.png)"
            for degradation in params.degradations
            for task in params.tasks
        ),
    ]
    return "\n\n".join(parts) + "\n"


def summary(results: pd.DataFrame, gains: pd.DataFrame) -> str:
    """The score table as text for a terminal."""
    return "\n" + _score_table(results, gains) + "\n"


def _score_table(results: pd.DataFrame, gains: pd.DataFrame) -> str:
    shares = gains[gains.versus == DEGRADED].set_index(["task", "degradation", "variant", "metric"]).recovered
    rows = []
    for row in results.itertuples():
        share = shares.get((row.task, row.degradation, row.variant, row.metric), float("nan"))
        recovered = "" if pd.isna(share) or row.variant == CLEAN else f"{share:.2f}"
        interval = f"{_number(row.ci_low, row.metric)} to {_number(row.ci_high, row.metric)}"
        value = _number(row.value, row.metric)
        rows.append([row.task, row.degradation, row.metric, row.variant, value, interval, recovered])
    return table(["task", "degradation", "metric", "variant", "value", "interval", "recovered"], rows)


def _rival_table(verdicts: pd.DataFrame) -> str:
    rows = [
        [
            *(row.task, row.degradation, row.metric, row.variant, row.versus),
            f"{row.gain:+.4f}",
            f"{row.ci_low:+.4f} to {row.ci_high:+.4f}",
            f"{row.p_value:.3f}",
            f"{row.p_holm:.3f}",
            row.verdict,
        ]
        for row in verdicts[verdicts.versus != DEGRADED].itertuples()
    ]
    header = ["task", "degradation", "metric", "variant", "versus", "gain", "interval", "p", "p (Holm)", "verdict"]
    return table(header, rows)


def _trainings(params: Params) -> str:
    """What the intervals say about other seeds."""
    repeats = params.train_restorer.repeats
    if repeats == 1:
        return "; training noise (other seeds) is not in them."
    return f" and over {repeats} trainings of each restorer, whose scores are averaged."


def _pixel(params: Params) -> str:
    names = [f"`{name}`" for name in params.pixel_objectives]
    return f"{' and '.join(names)}: a restorer with the pixel loss alone; " if names else ""


def _list(title: str, lines: Sequence[str]) -> list[str]:
    return [title, "\n".join(f"- {line}" for line in lines)] if lines else []


def _severity(params: Params) -> str:
    asked = params.degrade.severity
    own = {name: severity for name, severity in params.degrade.severity_of.items() if name in params.degradations}
    exceptions = f" ({', '.join(f'{name}: {severity}' for name, severity in own.items())})" if own else ""
    if isinstance(asked, int):
        return f"Severity {asked}{exceptions}"
    if isinstance(asked, RandomSeverity):
        return f"Severity drawn for each image from {', '.join(map(str, asked.random))}{exceptions}"
    return f"Mean over severities {', '.join(map(str, asked))}{exceptions}"


def _robustness_table(robustness: pd.DataFrame) -> str:
    rows = [
        [
            *(row.task, row.metric, row.variant),
            _number(row.mPC, row.metric),
            f"{_number(row.mPC_low, row.metric)} to {_number(row.mPC_high, row.metric)}",
            *(("", "") if pd.isna(row.rPC) else (f"{row.rPC:.3f}", f"{row.rPC_low:.3f} to {row.rPC_high:.3f}")),
        ]
        for row in robustness.itertuples()
    ]
    return table(["task", "metric", "variant", "mPC", "interval", "rPC", "interval"], rows)


def _by_severity(severities: pd.DataFrame) -> list[str]:
    """A table with one column for each severity, where there are several."""
    levels = sorted(severities.severity.dropna().unique())
    if len(levels) < 2:
        return []
    keys = ["task", "degradation", "metric", "variant"]
    rows = [
        [*map(str, key), *(_number(own[own.severity == s].value.mean(), str(key[2])) for s in levels)]
        for key, own in severities.dropna(subset=["severity"]).groupby(keys, sort=False)
    ]
    return ["## By severity", table([*keys, *(f"{s:g}" for s in levels)], rows)]


def _number(value: float, metric: str) -> str:
    return f"{value:.{find_metric(metric).digits}f}"
