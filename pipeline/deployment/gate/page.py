"""The gate in words and as a figure. Not a stage."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from pipeline.deployment.finished import Finished
from pipeline.deployment.gate.model import ALWAYS, NEVER, Gate
from pipeline.deployment.gate.policies import GATE
from pipeline.reporting.html.figures import COLOURS, SETTINGS
from pipeline.reporting.markdown import table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
