"""The report of a gate: its page, the table of risk and score against coverage, and the figure of that table."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipeline.commands.completed_runs import CompletedRun
from pipeline.commands.gate_model import ALWAYS, NEVER, Floats, Gate
from pipeline.commands.gate_scores import GATE
from pipeline.reporting.figures import COLOURS, SETTINGS
from pipeline.reporting.markdown import table
from pipeline.statistics.resampling import Resamples, percentile_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIGURE = "risk_coverage.svg"
PANEL = 2.6  # inches
COVERAGES = np.linspace(0, 1, 21)
CURVE_COLUMNS = [
    *("split", "coverage", "threshold", "risk", "risk_low", "risk_high", "oracle_risk"),
    *("score", "score_low", "score_high", "oracle_score", "random_score"),
]
CONSTANT = {
    ALWAYS: "It restores every image: choosing was not clearly better on the images that it was fitted on.",
    NEVER: "It restores no image: choosing was not clearly better on the images that it was fitted on.",
}


def gate_page(
    run: CompletedRun, task: str, gate: Gate, policies: pd.DataFrame, splits: Sequence[str], cautions: Sequence[str]
) -> str:
    """The page gate.md.

    Args:
        run: the completed run.
        task: name of the task.
        gate: the fitted gate.
        policies: policies.csv.
        splits: the split that the gate was fitted on, and the reported one.
        cautions: what limits the results, one sentence each.
    """
    level = f"{100 * run.params.statistics.level:g} %"
    fitted, reported = splits
    parts = [
        f"# Restore or not: `{run.objective}` for `{run.degradation}`, scored by {task}",
        CONSTANT.get(str(gate.threshold)) or f"It restores an image if it predicts a gain above {gate.threshold:+.4f}.",
        *(f"**{text}**" for text in cautions),
        f"The gate is fitted on `{fitted}`. Nothing was chosen on `{reported}`, the reported split. On `{fitted}` each "
        "prediction is by a model fitted on other images, and the threshold was chosen on those predictions. So on "
        f"`{fitted}` the gate is not worse than the better of always and never in the mean image score. A gate that "
        f"chooses is not worse in the task's main metric either. Intervals: {level}, paired bootstrap over images.",
        "## Policies",
        table(
            ["split", "policy", "restored", "metric", "value", "interval", "over never", "over always"],
            [_policy_cells(row) for row in policies.to_dict("records")],
        ),
        "The oracle knows the true gain in each image's score, which is not the metric of the whole split.",
        "## Risk and coverage",
        f"![Risk and score against coverage]({FIGURE})",
        "Coverage: the share of images that are restored, those with the largest predicted gains first. Risk: the "
        "mean loss of score over the restored images, where an image that gains loses 0. Bands: the same intervals. "
        "The numbers are in risk_coverage.csv.",
        "## Features",
        "A ridge regression of the gain on standardised features. The weight is the change of the predicted gain for "
        "one standard deviation of the feature.",
        table(["feature", "weight"], list(_weight_cells(gate))),
    ]
    return "\n\n".join(parts) + "\n"


def summarise(policies: pd.DataFrame, metric: str) -> str:
    """One line for each split: a metric of policies.csv under each policy."""
    lines = []
    for split, rows in policies[policies.metric == metric].groupby("split", sort=False):
        values = ", ".join(f"{row.policy} {row.value:.4f}" for row in rows.itertuples())
        share = rows[rows.policy == GATE].restored.item()
        lines.append(f"{split}: {metric}: {values}; the gate restores {100 * share:.0f} %")
    return "\n".join(lines)


def _policy_cells(row: Mapping[str, Any]) -> list[str]:
    gains = [
        f"{row[name]:+.4f} ({row[f'{name}_low']:+.4f} to {row[f'{name}_high']:+.4f})"
        for name in (f"over_{NEVER}", f"over_{ALWAYS}")
    ]
    restored, interval = f"{100 * row['restored']:.0f} %", f"{row['ci_low']:.4f} to {row['ci_high']:.4f}"
    return [row["split"], row["policy"], restored, row["metric"], f"{row['value']:.4f}", interval, *gains]


def _weight_cells(gate: Gate) -> Iterator[list[str]]:
    for name, weight in sorted(zip(gate.features, gate.coefficients, strict=True), key=lambda pair: -abs(pair[1])):
        yield [name, f"{weight:+.4f}"]


def risk_coverage(
    split: str, table: pd.DataFrame, predicted: Floats, resamples: Resamples, level: float
) -> list[dict[str, Any]]:
    """Rows of risk_coverage.csv: risk and score if the share `coverage` with the largest predicted gains is restored.

    - Risk is the mean of max(before - after, 0) over the restored images; undefined if none is restored.
    - Score is the mean over all images, restored or not.
    - The oracle orders by the true gain; `random` chooses at random.

    Args:
        split: for the first column.
        table: columns image, before and after of N cases.
        predicted: (N,) predicted gains.
        resamples: of the images, in the order of their sorted names.
        level: of confidence.
    """
    before, gains = table.before.to_numpy(), (table.after - table.before).to_numpy()
    image_indices = np.unique(table.image.to_numpy(), return_inverse=True)[1]
    once = np.ones((1, len(table)))
    by_gate, by_oracle = _sweep(before, gains, predicted, once), _sweep(before, gains, gains, once)
    resampled = _sweep(before, gains, predicted, resamples.weights[:, image_indices].astype(np.float64))
    thresholds = np.sort(predicted)[::-1]
    rows: list[dict[str, Any]] = []
    for index, coverage in enumerate(COVERAGES):
        restored = round(coverage * len(thresholds))
        threshold = thresholds[restored - 1] if restored else np.nan
        row = {"split": split, "coverage": coverage, "threshold": threshold}
        for name in ("risk", "score"):
            low, high = percentile_interval(resampled[name][:, index], resamples.effective_groups, level)
            row |= {name: by_gate[name][0, index], f"{name}_low": low, f"{name}_high": high}
            row[f"oracle_{name}"] = by_oracle[name][0, index]
        rows.append({**row, "random_score": float((before + coverage * gains).mean())})
    return rows


def _sweep(before: Floats, gains: Floats, order_by: Floats, weights: Floats) -> dict[str, Floats]:
    """Risk and score (R, coverages) if images are restored in falling order; part of an image counts in proportion.

    Args:
        before: (N,) scores before restoring.
        gains: (N,) true gains.
        order_by: (N,) the largest come first; equal ones count as one group, whatever their order.
        weights: (R, N) of the cases.
    """
    order = np.argsort(-order_by, kind="stable")
    group_ends = np.flatnonzero(np.append(np.diff(order_by[order]) != 0, True))
    ordered, total = weights[:, order], weights.sum(axis=1, keepdims=True)

    def cumulative(values: Floats) -> Floats:
        """Sums (R, groups + 1) over the first groups, as shares of the total weight."""
        return np.pad(np.cumsum(ordered * values[order], axis=1)[:, group_ends], ((0, 0), (1, 0))) / total

    shares, gained, lost = cumulative(np.ones(len(gains))), cumulative(gains), cumulative(np.maximum(-gains, 0))
    start = (weights @ before) / weights.sum(axis=1)
    score = start[:, None] + _at_coverages(shares, gained)
    harm = _at_coverages(shares, lost)
    risk = np.divide(harm, COVERAGES, out=np.full(harm.shape, np.nan), where=COVERAGES > 0)
    return {"risk": risk, "score": score}


def _at_coverages(shares: Floats, values: Floats) -> Floats:
    """Values (R, coverages), interpolated linearly between the shares (R, groups + 1)."""
    return np.array([np.interp(COVERAGES, row_shares, row) for row_shares, row in zip(shares, values, strict=True)])


def draw_curves(curves: pd.DataFrame, policies: pd.DataFrame, metric: str, path: Path) -> None:
    """Write the SVG: a row for each split; risk on the left, score on the right. The same tables give the same bytes.

    Args:
        curves: risk_coverage.csv.
        policies: policies.csv, for the point of the gate.
        metric: name of the mean image score in it.
        path: the file.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    splits = list(dict.fromkeys(curves.split))
    with rc_context(SETTINGS):
        figure = Figure(figsize=(2.6 * PANEL, PANEL * len(splits)), layout="constrained")
        panels = figure.subplots(len(splits), 2, squeeze=False)
        for split, (risk, score) in zip(splits, panels, strict=True):
            curve = curves[curves.split == split]
            _plot(risk, curve, "risk")
            _plot(score, curve, "score")
            random = {"color": COLOURS[-1], "linewidth": 0.8, "linestyle": ":", "label": "random"}
            score.plot(curve.coverage, curve.random_score, **random)
            is_gate = (policies.split == split) & (policies.policy == GATE) & (policies.metric == metric)
            gate = policies[is_gate].iloc[0]
            score.plot(gate.restored, gate.value, "o", color=COLOURS[1], label="the gate")
            risk.set(title=split, ylabel="risk: score lost by restored images")
            score.set(title=split, ylabel=metric)
            for axes in (risk, score):
                axes.set_xlabel("coverage: share of images restored")
        figure.legend(*panels[0, 1].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _plot(axes: "Axes", curve: pd.DataFrame, name: str) -> None:
    low, high = curve[f"{name}_low"], curve[f"{name}_high"]
    axes.fill_between(curve.coverage, low, high, color=COLOURS[0], alpha=0.2, linewidth=0)
    axes.plot(curve.coverage, curve[name], color=COLOURS[0], label="by predicted gain")
    axes.plot(curve.coverage, curve[f"oracle_{name}"], color=COLOURS[2], linestyle="--", label="by true gain (oracle)")
