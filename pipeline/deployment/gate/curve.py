"""Risk and score against coverage, the share of images that are restored. Not a stage."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.statistics import percentile_interval

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
