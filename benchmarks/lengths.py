"""Scores over the length of training, from the reports of runs that differ in it alone.

    python -m benchmarks.lengths PICTURE REPORT... --degradation fog --seconds pixel=0.15 diffloss=0.34

REPORT are folders such as artifacts/report, kept after each run. The picture has a row for each task (mAP50-95, mIoU)
and two columns: over the steps, and over the seconds that they take, at the seconds of a step that are named. Those
come from `benchmarks.training_step`, where objectives take turns, since the runs' own were not measured side by side.
"""

import argparse
from pathlib import Path

import pandas as pd

from pipeline.metrics import main_metric
from pipeline.settings.grammar import CLEAN, DEGRADED

METRICS = {task: main_metric(task).name for task in ("detection", "segmentation")}
COLUMNS = ("steps", "seconds")


def read_scores(report: Path, degradation: str) -> pd.DataFrame:
    """The rows of results.csv to draw: the main metric of each task."""
    results = pd.read_csv(report / "results.csv")
    return results[(results.degradation == degradation) & (results.metric == results.task.map(METRICS))]


def read_points(report: Path, degradation: str) -> pd.DataFrame:
    """A row (task, variant, steps, value, ci_low, ci_high) for each objective of a report that was trained.

    Raises:
        SystemExit: the report has no curve or no score for this degradation.
    """
    curves = pd.read_csv(report / "curves.csv")
    steps = curves[curves.degradation == degradation].groupby("variant").step.max().rename("steps")
    points = read_scores(report, degradation).merge(steps, left_on="variant", right_index=True)
    if points.empty:
        raise SystemExit(f"{report}: no scores of trained restorers for {degradation}")
    return points


def read_bounds(report: Path, degradation: str) -> pd.Series:
    """The ceiling and the floor: scores of clean and of degraded images, by task and variant."""
    scores = read_scores(report, degradation)
    return scores[scores.variant.isin([CLEAN, DEGRADED])].set_index(["task", "variant"]).value


def draw(points: pd.DataFrame, bounds: pd.Series, picture: Path, title: str) -> None:
    """Write the picture; intervals are bars."""
    from matplotlib.figure import Figure

    tasks = list(dict.fromkeys(points.task))
    figure = Figure(figsize=(8, 2.9 * len(tasks)), layout="constrained")
    panels = figure.subplots(len(tasks), len(COLUMNS), sharey="row", squeeze=False)
    for task, row in zip(tasks, panels, strict=True):
        for column, axes in zip(COLUMNS, row, strict=True):
            for variant, curve in points[points.task == task].sort_values("steps").groupby("variant", sort=False):
                spread = [curve.value - curve.ci_low, curve.ci_high - curve.value]
                axes.errorbar(curve[column], curve.value, spread, marker="o", capsize=3, label=str(variant), alpha=0.8)
            for name, style in ((CLEAN, "--"), (DEGRADED, ":")):
                axes.axhline(bounds[task, name], color="0.5", linestyle=style, label=name)
            axes.set_xlabel(f"{column} of training")
        row[0].set_ylabel(METRICS[task])
    panels[0, 0].legend(fontsize="small")
    figure.suptitle(title)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110, metadata={"Software": None})


def _pair(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    return name, float(value)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("reports", type=Path, nargs="+", metavar="REPORT")
    parser.add_argument("--degradation", required=True)
    parser.add_argument(
        "--seconds", type=_pair, nargs="+", required=True, metavar="OBJECTIVE=SECONDS", help="of a step"
    )
    options = parser.parse_args()
    seconds = dict(options.seconds)
    points = pd.concat([read_points(report, options.degradation) for report in options.reports])
    points = points[points.variant.isin(list(seconds))].drop_duplicates(["task", "variant", "steps"])
    points["seconds"] = points.steps * points.variant.map(seconds)
    draw(points, read_bounds(options.reports[0], options.degradation), options.picture, options.degradation)
    columns = ["task", "variant", "steps", "seconds", "value", "ci_low", "ci_high"]
    print(points.sort_values(["task", "variant", "steps"])[columns].to_string(index=False))


if __name__ == "__main__":
    main()
