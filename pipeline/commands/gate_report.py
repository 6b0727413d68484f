"""Risk and score against coverage, the share of images that are restored. Not a stage."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.commands.finished_runs import Finished
from pipeline.commands.gate_cases import GATE
from pipeline.commands.gate_model import ALWAYS, NEVER, Gate
from pipeline.reporting.figures import COLOURS, SETTINGS
from pipeline.reporting.markdown import table
from pipeline.statistics.resampling import percentile_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COVERAGES = np.linspace(0, 1, 21)
COLUMNS = [
    *("split", "coverage", "threshold", "risk", "risk_low", "risk_high", "oracle_risk"),
    *("score", "score_low", "score_high", "oracle_score", "random_score"),
]

Floats = NDArray[np.float64]


def risk_coverage(
    split: str, cases: pd.DataFrame, predicted: Floats, weights: NDArray[np.int64], level: float
) -> list[dict[str, Any]]:
    """Rows of risk_coverage.csv: what happens where the share `coverage` with the largest predicted gains is restored.

    Risk is what the restored images lose by it: the mean of max(before - after, 0) over them; undefined where none is
    restored. Score is the mean over all images, restored or not. The oracle goes by the true gain, `random` by nothing.

    Args:
        split: for the first column.
        cases: image, before and after of N cases.
        predicted: (N,) gains.
        weights: (R, I) how often each of the I images is taken in each resample, in the order of their sorted names.
        level: of confidence.
    """
    before, gains = cases.before.to_numpy(), (cases.after - cases.before).to_numpy()
    places = np.unique(cases.image.to_numpy(), return_inverse=True)[1]
    once = np.ones((1, len(cases)))
    taken = weights[:, places].astype(np.float64)
    own, true = _sweep(before, gains, predicted, once), _sweep(before, gains, gains, once)
    resampled = _sweep(before, gains, predicted, taken)
    count = weights.shape[1]
    levels = np.sort(predicted)[::-1]
    rows: list[dict[str, Any]] = []
    for place, coverage in enumerate(COVERAGES):
        restored = round(coverage * len(levels))
        row = {"split": split, "coverage": coverage, "threshold": levels[restored - 1] if restored else np.nan}
        for name in ("risk", "score"):
            low, high = percentile_interval(resampled[name][:, place], count, level)
            row |= {name: own[name][0, place], f"{name}_low": low, f"{name}_high": high}
            row[f"oracle_{name}"] = true[name][0, place]
        rows.append({**row, "random_score": float((before + coverage * gains).mean())})
    return rows


def _sweep(before: Floats, gains: Floats, order_by: Floats, taken: Floats) -> dict[str, Floats]:
    """Risk and score (R, coverages) where images are restored in falling order; parts of images count in proportion.

    Args:
        before: (N,) scores of the degraded images.
        gains: (N,)
        order_by: (N,) the larger, the earlier; of equals all count as one, whatever their order.
        taken: (R, N) weights.
    """
    order = np.argsort(-order_by, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(order_by[order]) != 0, True))  # the last one of each group of equals
    ordered, total = taken[:, order], taken.sum(axis=1, keepdims=True)
    shares, gained, lost = (
        np.pad(np.cumsum(ordered * values[order], axis=1)[:, ends], ((0, 0), (1, 0))) / total
        for values in (np.ones(len(gains)), gains, np.maximum(-gains, 0))
    )
    start = (taken @ before) / taken.sum(axis=1)
    score = start[:, None] + _at(COVERAGES, shares, gained)
    harm = _at(COVERAGES, shares, lost)
    risk = np.divide(harm, COVERAGES, out=np.full(harm.shape, np.nan), where=COVERAGES > 0)
    return {"risk": risk, "score": score}


def _at(points: Floats, shares: Floats, values: Floats) -> Floats:
    return np.array([np.interp(points, own, row) for own, row in zip(shares, values, strict=True)])


CURVES = "risk_coverage.svg"
PANEL = 2.6  # inches
WORDS = {
    ALWAYS: "It restores every image: choosing was not clearly better on the images that it was fitted on.",
    NEVER: "It restores no image: choosing was not clearly better on the images that it was fitted on.",
}


def page(
    run: Finished, task: str, gate: Gate, policies: pd.DataFrame, splits: Sequence[str], cautions: Sequence[str]
) -> str:
    """gate.md."""
    level = f"{100 * run.params.statistics.level:g} %"
    fitted, reported = splits
    parts = [
        f"# Restore or not: `{run.objective}` for `{run.degradation}`, judged by {task}",
        WORDS.get(str(gate.threshold)) or f"It restores an image where it predicts a gain above {gate.threshold:+.4f}.",
        *(f"**{text}**" for text in cautions),
        f"Fitted on `{fitted}`; `{reported}` is the reported split, on which nothing was chosen. On `{fitted}` each "
        "prediction is by a model fitted on other images, and the threshold was chosen on those predictions: there the "
        "gate is not worse than the better of always and never in the images' own score, and a gate that chooses is "
        f"not in the task's first metric either. Intervals: {level}, paired bootstrap over images.",
        "## Policies",
        table(
            ["split", "policy", "restored", "metric", "value", "interval", "over never", "over always"],
            [_row(row) for row in policies.to_dict("records")],
        ),
        "The oracle knows the true gain in each image's own score, which is not the metric of the whole split.",
        "## Risk and coverage",
        f"![Risk and score against coverage]({CURVES})",
        "Coverage: the share of images that are restored, those with the largest predicted gains first. Risk: the "
        "score that the restored images lose by it on average, where they lose. Bands: the same intervals. "
        "The numbers are in risk_coverage.csv.",
        "## What it looks at",
        "A ridge regression of the gain on standardised features: so many points of score for one standard deviation.",
        table(["feature", "weight"], list(_weights(gate))),
    ]
    return "\n\n".join(parts) + "\n"


def summary(policies: pd.DataFrame) -> str:
    """One line for each split: the images' own score under each policy."""
    lines = []
    for split, own in policies.groupby("split", sort=False):
        first = own[own.metric == own.metric.iloc[0]]
        values = ", ".join(f"{row.policy} {row.value:.4f}" for row in first.itertuples())
        share = first[first.policy == GATE].restored.iloc[0]
        lines.append(f"{split}: {first.metric.iloc[0]}: {values}; the gate restores {100 * share:.0f} %")
    return "\n".join(lines)


def draw(curves: pd.DataFrame, policies: pd.DataFrame, path: Path) -> None:
    """Write the SVG: a row for each split; risk on the left, score on the right. The same tables give the same bytes.

    Args:
        curves: risk_coverage.csv.
        policies: policies.csv, for the point where the gate is.
        path: the file.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    splits = list(dict.fromkeys(curves.split))
    with rc_context(SETTINGS):
        figure = Figure(figsize=(2.6 * PANEL, PANEL * len(splits)), layout="constrained")
        panels = figure.subplots(len(splits), 2, squeeze=False)
        for split, (risk, score) in zip(splits, panels, strict=True):
            own = curves[curves.split == split]
            _line(risk, own, "risk")
            _line(score, own, "score")
            score.plot(own.coverage, own.random_score, color=COLOURS[-1], linewidth=0.8, linestyle=":", label="random")
            mine = policies[(policies.split == split) & (policies.policy == GATE)].iloc[0]
            score.plot(mine.restored, mine.value, "o", color=COLOURS[1], label="the gate")
            risk.set(title=split, ylabel="risk: score lost by restored images")
            score.set(title=split, ylabel=mine.metric)
            for axes in (risk, score):
                axes.set_xlabel("coverage: share of images restored")
        figure.legend(*panels[0, 1].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _line(axes: "Axes", own: pd.DataFrame, name: str) -> None:
    axes.fill_between(own.coverage, own[f"{name}_low"], own[f"{name}_high"], color=COLOURS[0], alpha=0.2, linewidth=0)
    axes.plot(own.coverage, own[name], color=COLOURS[0], label="by predicted gain")
    axes.plot(own.coverage, own[f"oracle_{name}"], color=COLOURS[2], linestyle="--", label="by true gain (oracle)")


def _row(row: Mapping[str, object]) -> list[str]:
    return [
        *(str(row[name]) for name in ("split", "policy")),
        f"{100 * float(str(row['restored'])):.0f} %",
        str(row["metric"]),
        f"{row['value']:.4f}",
        f"{row['ci_low']:.4f} to {row['ci_high']:.4f}",
        *(_gain(row, f"over_{rival}") for rival in (NEVER, ALWAYS)),
    ]


def _gain(row: Mapping[str, object], name: str) -> str:
    return f"{row[name]:+.4f} ({row[f'{name}_low']:+.4f} to {row[f'{name}_high']:+.4f})"


def _weights(gate: Gate) -> Iterator[list[str]]:
    for name, weight in sorted(zip(gate.features, gate.coefficients, strict=True), key=lambda pair: -abs(pair[1])):
        yield [name, f"{weight:+.4f}"]
