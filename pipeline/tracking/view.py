"""The view of the comparison in MLflow's UI: columns, charts and their order.

The UI's button "Views" stores a view as a tag of the experiment; this module writes such a tag, so that the view is in
that list. An MLflow with another format shows its default view instead.
"""

import base64
import json
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

from pipeline.metrics import METRICS, QUALITY, main_metric

KEY = "comparison"
TAG = f"mlflow.sharedViewState.{KEY}"
NAME = "Does restoring help?"
COLOUR = "mlflow.runColor"  # the tag that holds the colour of a run's dot, line and bar
ORDER = "row"  # the tag that rows are sorted by
# The colours of Okabe and Ito, which colour-blind people can tell apart, then darker ones.
PALETTE = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442"),
    *("#004b76", "#8f6300", "#00573f", "#7d3f63", "#2b6d94", "#7d3700"),
)
COLUMNS = ("degradation", "variant")
GAIN_OVER = "gain_over_"  # sections of metrics
RECOVERED = "recovered"
ENDS = ("low", "high")  # of an interval
SCORES, GAINS, SHARES = "Scores", "Gain over degraded", "Recovered share"  # sections of charts
IMAGE_QUALITY, ALL_ROWS = "Image quality", "All rows at once"
WIDTH = 40  # pixels of a column without its name
LETTER = 7  # pixels
BARS, LINES = (
    {"columns": 2, "cardHeight": 330},
    {"columns": 1, "cardHeight": 420},
)  # how charts of a section are laid out
MOST_RUNS = 100  # in a chart, MLflow's limit


def score_metric(task: str, metric: str) -> str:
    """The name of a score in MLflow, without spaces."""
    return f"{task}/{metric}".replace(" ", "_")


def gain_metric(baseline: str, task: str, metric: str, end: str = "") -> str:
    """The name of a gain, or of an end of its interval, in MLflow."""
    return "_".join(filter(None, (f"{GAIN_OVER}{baseline}/{task}", metric, end))).replace(" ", "_")


def recovered_metric(task: str, metric: str, end: str = "") -> str:
    """The name of a recovered share, or of an end of its interval, in MLflow."""
    return "_".join(filter(None, (f"{RECOVERED}/{task}", metric, end))).replace(" ", "_")


def view(metrics: Iterable[str], created: int) -> str:
    """The tag's value.

    Args:
        metrics: the names of the rows' metrics in MLflow.
        created: milliseconds since 1970.
    """
    names = list(dict.fromkeys(metrics))
    sections = _sections(names)
    columns = [f"params.`{name}`" for name in COLUMNS] + [f"metrics.`{name}`" for name in _columns(sections)]
    charted = {name for metrics in sections.values() for name in metrics}
    others = dict.fromkeys(_section(name) for name in names if name not in charted)  # MLflow fills these
    state = {
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {name: WIDTH + LETTER * len(name.partition(".")[2]) for name in columns},
        "compareRunCharts": _charts(sections),
        "compareRunSections": [
            *(_titled(title, LINES if title == ALL_ROWS else BARS) for title in sections),
            *(_titled(name, {"display": False}) for name in others),
        ],
        "isAccordionReordered": True,
        "runsHiddenMode": "SHOWALL",
        "orderByKey": f"tags.`{ORDER}`",
        "orderByAsc": True,
    }
    packed = "deflate;" + base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()
    return json.dumps({"name": NAME, "createdAt": created, "updatedAt": created, "state": packed})


def _sections(names: Sequence[str]) -> dict[str, list[str]]:
    """The metrics of each section of charts, in reading order; sections without metrics are left out."""
    main = {task: main_metric(task).name for task in METRICS if task != QUALITY}
    scores = [name for name in names if name in {score_metric(task, metric) for task, metric in main.items()}]
    tasks = {name.partition("/")[0]: name.partition("/")[2] for name in scores}
    known = set(names)

    def of_tasks(baseline: str) -> list[str]:
        gains = (gain_metric(baseline, task, metric) for task, metric in tasks.items())
        return [name for name in gains if name in known]

    baselines = dict.fromkeys(_section(name).removeprefix(GAIN_OVER) for name in names if name.startswith(GAIN_OVER))
    sections = {SCORES: scores, GAINS: of_tasks("degraded")}
    sections[SHARES] = [name for task, metric in tasks.items() if (name := recovered_metric(task, metric)) in known]
    sections |= {f"Gain over {name}": of_tasks(name) for name in baselines if name not in ("degraded", "clean")}
    sections[IMAGE_QUALITY] = [name for name in names if _section(name) == QUALITY]
    sections[ALL_ROWS] = [*scores, *sections[GAINS], *sections[IMAGE_QUALITY][:2]]
    return {title: metrics for title, metrics in sections.items() if metrics}


def _columns(sections: dict[str, list[str]]) -> list[str]:
    """The metrics in the table: scores, gains over every baseline, recovered shares, then image quality."""
    last = [*sections.get(SHARES, ()), *sections.get(IMAGE_QUALITY, ())]
    gains = [name for title, names in sections.items() if title.startswith("Gain over") for name in names]
    return [*sections.get(SCORES, ()), *gains, *last]


def _charts(sections: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Bars of every metric, then the tasks' scores against image quality, then parallel coordinates of all rows."""
    charts: list[tuple[str, dict[str, Any]]] = []
    for title, names in sections.items():
        if title == ALL_ROWS:
            lines = {"type": "PARALLEL", "selectedParams": list(COLUMNS), "selectedMetrics": names, "showAllRuns": True}
            charts.append((title, lines))
        else:
            charts += [(title, {"type": "BAR", "metricKey": name}) for name in names]
        if title == IMAGE_QUALITY:
            pairs = [(name, score) for score in sections.get(SCORES, ()) for name in names[:2]]
            charts += [(title, _scatter(*pair)) for pair in pairs]
    common = {"deleted": False, "isGenerated": False, "runsCountToCompare": MOST_RUNS}
    return [
        {**common, **chart, "metricSectionId": title, "uuid": f"{KEY}-{index}"}
        for index, (title, chart) in enumerate(charts)
    ]


def _scatter(horizontal: str, vertical: str) -> dict[str, Any]:
    axes = {"xaxis": {"key": horizontal, "type": "METRIC"}, "yaxis": {"key": vertical, "type": "METRIC"}}
    return {"type": "SCATTER", **axes}


def _section(metric: str) -> str:
    return metric.partition("/")[0]


def _titled(name: str, layout: dict[str, Any]) -> dict[str, Any]:
    """A section of charts, shown unless `layout` says otherwise."""
    common = {"display": True, "isReordered": True, "deleted": False, "isGenerated": False}
    return {"uuid": name, "name": name, **common, **layout}
