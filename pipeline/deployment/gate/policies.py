"""The gate beside never and always restoring, and the oracle: scores with intervals. Not a stage."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.tasks.contract import Task
from models.tasks.records import MeanRecords
from pipeline.deployment.gate.cases import Cases, Part
from pipeline.deployment.gate.model import ALWAYS, NEVER
from pipeline.scoring.scores import Resampled
from pipeline.statistics import interval, paired_gain

GATE, ORACLE = "gate", "oracle"
COLUMNS = [
    *("split", "policy", "restored", "metric", "value", "ci_low", "ci_high"),
    *("over_never", "over_never_low", "over_never_high", "over_always", "over_always_low", "over_always_high"),
    "n_images",
]

Bools = NDArray[np.bool_]


def decisions(cases: pd.DataFrame, gate: Bools) -> dict[str, Bools]:
    """Which cases (N,) each policy restores; the oracle knows the true gains of the images' own scores."""
    everything = np.ones(len(cases), dtype=bool)
    return {NEVER: ~everything, ALWAYS: everything, GATE: gate, ORACLE: (cases.after > cases.before).to_numpy()}


def policy_rows(
    split: str,
    cases: pd.DataFrame,
    metric: str,
    chosen: Mapping[str, Bools],
    parts: Sequence[Part],
    source: Cases,
    weights: NDArray[np.int64],
    level: float,
) -> list[dict[str, Any]]:
    """Rows of policies.csv: the mean of the images' own score, and the task's metrics, which are of the whole split.

    Where there are several parts (severities, clean images), each metric is the mean over them.

    Args:
        split: for the first column.
        cases: of all parts.
        metric: name of the images' own score.
        chosen: policy to the cases (N,) that it restores.
        parts: in the order of the cases.
        source: reads the predictions and scores them.
        weights: (R, I) how often each image is taken in each resample.
        level: of confidence.
    """
    scored: dict[str, list[Resampled]] = {}
    for policy, restored in chosen.items():
        own = [_own(cases, restored, part, metric) for part in parts]
        whole = [_mixed(source, source.task, part, cases, restored) for part in parts]
        scored[policy] = [Resampled.mean([Resampled.from_records(r, weights) for r in kind]) for kind in (own, whole)]
    rows: list[dict[str, Any]] = []
    for policy, kinds in scored.items():
        for place, scores in enumerate(kinds):
            gains = {rival: paired_gain(scores, scored[rival][place], weights, level) for rival in (NEVER, ALWAYS)}
            for name, found in interval(scores, weights, level).items():
                row = {"split": split, "policy": policy, "restored": chosen[policy].mean(), "metric": name}
                row |= {"value": found.value, "ci_low": found.low, "ci_high": found.high}
                for rival, own_gains in gains.items():
                    gain = own_gains[name]
                    row |= {f"over_{rival}": gain.gain, f"over_{rival}_low": gain.low, f"over_{rival}_high": gain.high}
                rows.append({**row, "n_images": len(scores.image_ids)})
    return rows


def is_worse(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the gate is behind always or never in the task's first metric, by the rows of one split."""
    metric = list(dict.fromkeys(row["metric"] for row in rows))[1]  # the first is the images' own score
    values = {row["policy"]: row["value"] for row in rows if row["metric"] == metric}
    return bool(values[GATE] < max(values[NEVER], values[ALWAYS]))


def _own(cases: pd.DataFrame, restored: Bools, part: Part, metric: str) -> MeanRecords:
    mine = (cases.part == part.name).to_numpy()
    scores = np.where(restored, cases.after, cases.before)[mine]
    return MeanRecords.from_values(
        {id: {f"mean {metric}": float(score)} for id, score in zip(cases.id[mine], scores, strict=True)}
    )


def _mixed(source: Cases, task: Task[Any], part: Part, cases: pd.DataFrame, restored: Bools) -> Any:
    """Records of the predictions that a policy gives: of the restored image where it restores."""
    before, after = source.predictions(part.before), source.predictions(part.after)
    mine = (cases.part == part.name).to_numpy()
    taken = dict(zip(cases.id[mine], restored[mine], strict=True))
    return task.score({id: after[id] if taken[id] else before[id] for id in part.truth.ids}, part.truth)
