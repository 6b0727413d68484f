"""The view of the comparison in MLflow's UI: columns, charts and their order.

The UI's button "Share" stores a view as a tag of the experiment; this module writes such a tag. An MLflow with another
format shows its default view instead.
"""

import base64
import json
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

KEY = "comparison"
TAG = f"mlflow.sharedViewState.{KEY}"
COLOUR = "mlflow.runColor"  # the tag that holds the colour of a run's dot, line and bar
# The colours of Okabe and Ito, which colour-blind people can tell apart, then darker ones.
PALETTE = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442"),
    *("#004b76", "#8f6300", "#00573f", "#7d3f63", "#2b6d94", "#7d3700"),
)
LAST = ("quality", "cost", "training", "tracking", "system")  # sections that come after those of the tasks
COLUMNS = ("degradation", "variant")
ENDS = (" low", " high")  # of intervals
WIDTH = 40  # pixels of a column without its name
LETTER = 7  # pixels


def view(metrics: Iterable[str]) -> str:
    """The tag's value for rows with these metrics, in reading order."""
    ordered = _ordered(list(dict.fromkeys(metrics)))
    scores = [name for name in ordered if _section(name) not in ("training", "tracking", "system")]
    plain = [name for name in scores if " " not in name]  # without gains and the ends of intervals
    recovered = [name for name in scores if name.startswith("recovered/") and not name.endswith(ENDS)]
    columns = [f"params.`{name}`" for name in COLUMNS] + [f"metrics.`{name}`" for name in [*plain, *recovered]]
    state = {
        "selectedColumns": columns,
        "columnOrder": columns,
        "compareRunCharts": _charts(plain),
        "columnWidths": {name: WIDTH + LETTER * len(name.partition(".")[2]) for name in columns},
        "compareRunSections": [_titled(name) for name in dict.fromkeys([KEY, *map(_section, ordered)])],
        "isAccordionReordered": True,
        "orderByKey": "attributes.start_time",
        "orderByAsc": True,
    }
    return "deflate;" + base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()


def _charts(plain: Sequence[str]) -> list[dict[str, Any]]:
    """Parallel coordinates of all rows, and each task's first metric against each quality metric."""
    tasks = [name for name in plain if _section(name) not in LAST]
    quality = [name for name in plain if _section(name) == "quality"]
    first_metrics: dict[str, str] = {}
    for name in tasks:
        first_metrics.setdefault(_section(name), name)
    first = list(first_metrics.values())
    lines = [*first, *quality]
    charts: list[dict[str, Any]] = [
        {"type": "PARALLEL", "selectedParams": list(COLUMNS), "selectedMetrics": lines, "showAllRuns": True}
    ]
    charts += [
        {
            "type": "SCATTER",
            "xaxis": {"key": quality_metric, "type": "METRIC"},
            "yaxis": {"key": name, "type": "METRIC"},
            "runsCountToCompare": 100,
        }
        for name in first
        for quality_metric in quality
    ]
    common = {"deleted": False, "isGenerated": False, "metricSectionId": KEY}
    return [{**chart, **common, "uuid": f"{KEY}-{index}"} for index, chart in enumerate(charts)]


def _ordered(metrics: Sequence[str]) -> list[str]:
    """The metrics in the order: tasks, recovered shares, gains, then the sections of LAST."""
    last = {name: position for position, name in enumerate(LAST, start=3)}

    def position(name: str) -> int:
        section = _section(name)
        return last.get(section, 1 if section == "recovered" else 2 if section.startswith("gain_over_") else 0)

    return sorted(metrics, key=position)


def _section(metric: str) -> str:
    return metric.partition("/")[0]


def _titled(name: str) -> dict[str, Any]:
    """A section of charts. The first section shows two large charts side by side."""
    layout = {"columns": 2, "cardHeight": 420} if name == KEY else {}
    common = {"display": True, "isReordered": True, "deleted": False, "isGenerated": True}
    return {"uuid": name, "name": name, **common, **layout}
