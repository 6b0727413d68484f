"""Does a gain in image quality predict a gain in the task? Rank correlations over variants and over images.

Both sides are gains over the degraded images: the difficulty of a degradation or of an image cancels.
"""

import math
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics import QUALITY
from pipeline.running.seeds import seed_for
from pipeline.settings.grammar import DEGRADED
from pipeline.settings.params import Params
from pipeline.statistics.resampling import Resamples, bootstrap_p_value, percentile_interval
from pipeline.statistics.scores import shared_resamples

ALL = "all"  # degradations together
VARIANTS, IMAGES = "variants", "images"
COLUMNS = [
    *("task", "degradation", "level", "quality_metric", "task_metric"),
    *("spearman", "ci_low", "ci_high", "p_value", "n", "n_images", "n_groups"),
]
PERMUTATIONS = 9999  # of the variants; if there are fewer, all of them
FEWEST_GROUPS = 10  # with fewer, resamples repeat each other and an interval is far too narrow
CHUNK_ELEMENTS = 2**22  # of an array (resamples, points): 32 MiB
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Correlation:
    """Spearman's, with its interval and two-sided p-value; NaN where undefined."""

    value: float
    low: float
    high: float
    p_value: float


def correlation_rows(
    params: Params, images: pd.DataFrame, gains: pd.DataFrame, groups: Mapping[str, Mapping[str, str]]
) -> list[dict[str, Any]]:
    """Rows of correlations.csv: for each task, for each degradation and for all of them together.

    Args:
        params: the objectives, which are the variants; seed and number of resamples.
        images: images.csv.
        gains: gains.csv.
        groups: of the images of each degradation, by their ids.
    """
    gains_of_images = image_gains(images, params.objectives)
    quality = gains_of_images[gains_of_images.task == QUALITY]
    mean_quality = quality.groupby(["degradation", "variant", "metric"], sort=False).gain.mean().reset_index()
    of_tasks = gains[(gains.versus == DEGRADED) & gains.variant.isin(params.objectives) & (gains.task != QUALITY)]
    rows: list[dict[str, Any]] = []
    for task in params.tasks:
        variants = joined(mean_quality, of_tasks[of_tasks.task == task], ["degradation", "variant"])
        task_images = gains_of_images[gains_of_images.task == task]
        every_image = joined(quality, task_images, ["degradation", "variant", "id"])
        for degradation in _scopes(quality):
            groups_of = ChainMap(*map(dict, groups.values())) if degradation == ALL else groups.get(degradation, {})
            for metrics, points in _metric_pairs(_within(variants, degradation)):
                estimate = over_variants(points.gain_x.to_numpy(), points.gain_y.to_numpy(), params.seed)
                if degradation == ALL:  # variants of one degradation are alike: their ranks are not exchangeable
                    estimate = replace(estimate, p_value=math.nan)
                rows.append(_row(task, degradation, VARIANTS, metrics, estimate, points))
            for metrics, points in _metric_pairs(_within(every_image, degradation)):
                image_ids, image = np.unique(_image_ids(points), return_inverse=True)
                resamples = shared_resamples(params, image_ids.tolist(), groups_of)
                estimate = _over_images(points, resamples, image, params.statistics.level)
                counts = {"n_images": len(image_ids), "n_groups": resamples.groups}
                rows.append(_row(task, degradation, IMAGES, metrics, estimate, points) | counts)
    return rows


def image_gains(images: pd.DataFrame, variants: Iterable[str]) -> pd.DataFrame:
    """images.csv of the variants with a column `gain`: each image's score less that of the degraded image."""
    keys = ["task", "degradation", "id", "metric"]
    before = images[images.variant == DEGRADED][[*keys, "score"]].rename(columns={"score": "before"})
    table = images[images.variant.isin(list(variants))].merge(before, on=keys, how="inner")
    return table.assign(gain=table.score - table.before)


def joined(quality: pd.DataFrame, task: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Gains in quality (metric_x, gain_x) joined with gains in the task (metric_y, gain_y); undefined ones dropped."""
    columns = [*keys, "metric", "gain"]
    return quality[columns].merge(task[columns], on=keys).dropna(subset=["gain_x", "gain_y"])


def over_variants(quality: Floats, task: Floats, seed: int) -> Correlation:
    """Correlation over variants, with the p-value of a permutation test; no interval: they are not a sample.

    Args:
        quality: (V,) gains in quality.
        task: (V,) gains in the task.
        seed: of the permutations, if there are too many to try all.
    """
    from scipy.stats import permutation_test, rankdata

    value, nan = spearman(quality, task), float("nan")
    if np.isnan(value):
        return Correlation(nan, nan, nan, nan)
    ranks = rankdata(task) - np.mean(rankdata(task))
    test = permutation_test(
        (rankdata(quality),),
        lambda permuted, axis: np.sum(permuted * ranks, axis=axis),
        permutation_type="pairings",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        rng=seed_for(seed, "correlations"),
    )
    return Correlation(value, nan, nan, float(test.pvalue))


def spearman(first: Floats, second: Floats) -> float:
    """Spearman's rank correlation of two (P,); NaN for fewer than two points, or if one side is constant."""
    return float(resampled_spearman(first, second, np.ones((1, len(first)), dtype=np.int64))[0])


def resampled_spearman(first: Floats, second: Floats, weights: NDArray[np.int64]) -> Floats:
    """Spearman's rank correlation in each of R resamples of P points, ties at their mean rank.

    Args:
        first: (P,)
        second: (P,)
        weights: (R, P) how often each point is taken.

    Returns:
        (R,), NaN if one side is constant.
    """
    step = max(1, CHUNK_ELEMENTS // max(1, len(first)))
    parts = [
        _weighted_correlation(_ranks(first, chunk), _ranks(second, chunk), chunk)
        for chunk in (weights[start : start + step].astype(np.float64) for start in range(0, len(weights), step))
    ]
    return np.concatenate(parts)


def _ranks(values: Floats, weights: Floats) -> Floats:
    """(R, P) mean ranks of (P,) values, of which resample r takes value p `weights[r, p]` times."""
    _, group = np.unique(values, return_inverse=True)
    if not len(group):
        return weights
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    taken = np.add.reduceat(weights[:, order], starts, axis=1)
    ranks: Floats = (np.cumsum(taken, axis=1) - (taken - 1) / 2)[:, group]
    return ranks


def _weighted_correlation(first: Floats, second: Floats, weights: Floats) -> Floats:
    total = weights.sum(axis=1, keepdims=True)
    a, b = (side - (weights * side).sum(axis=1, keepdims=True) / np.maximum(total, 1) for side in (first, second))
    spread = np.sqrt((weights * a * a).sum(axis=1) * (weights * b * b).sum(axis=1))
    return np.divide((weights * a * b).sum(axis=1), spread, out=np.full(len(weights), np.nan), where=spread > 1e-9)


def _over_images(points: pd.DataFrame, resamples: Resamples, image: NDArray[np.intp], level: float) -> Correlation:
    """Over all images of all variants; an image is resampled with all its points.

    Args:
        points: P of them.
        resamples: of the images.
        image: (P,) the index of each point's image.
        level: of confidence.
    """
    quality, task = points.gain_x.to_numpy(), points.gain_y.to_numpy()
    resampled = resampled_spearman(quality, task, resamples.weights[:, image])
    groups = resamples.effective_groups
    if groups < FEWEST_GROUPS:
        resampled = np.full_like(resampled, np.nan)
    low, high = percentile_interval(resampled, groups, level)
    return Correlation(spearman(quality, task), low, high, bootstrap_p_value(resampled, groups))


def _image_ids(points: pd.DataFrame) -> NDArray[Any]:
    """The ids of the images, without the split that precedes them if it has a copy for each severity."""
    return points.id.astype(str).str.rpartition("/")[2].to_numpy(dtype=str)


def _scopes(quality: pd.DataFrame) -> list[str]:
    degradations = list(dict.fromkeys(quality.degradation))
    return [*degradations, ALL] if len(degradations) > 1 else degradations


def _within(points: pd.DataFrame, degradation: str) -> pd.DataFrame:
    return points if degradation == ALL else points[points.degradation == degradation]


def _metric_pairs(points: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    """Each pair of a metric of quality and a metric of the task, with its points."""
    for metrics, rows in points.groupby(["metric_x", "metric_y"], sort=False):
        yield (str(metrics[0]), str(metrics[1])), rows


def _row(
    task: str, degradation: str, level: str, metrics: tuple[str, str], estimate: Correlation, points: pd.DataFrame
) -> dict[str, Any]:
    return {
        "task": task,
        "degradation": degradation,
        "level": level,
        "quality_metric": metrics[0],
        "task_metric": metrics[1],
        "spearman": estimate.value,
        "ci_low": estimate.low,
        "ci_high": estimate.high,
        "p_value": estimate.p_value,
        "n": len(points),
    }
