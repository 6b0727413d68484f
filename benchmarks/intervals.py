"""Coverage of the intervals: two simulated systems are compared again and again.

    python -m benchmarks.intervals [--repeats 1000] [--images 100] [--resamples 500] [--seed 0]
                                   [--advantage 0.3 [--population 20000]]

In each repeat new images are drawn, and two systems predict on them. Prints how often a 95 % interval covers the truth,
with the binomial standard error, and how often it is undefined.

By default both systems are equally good: the true gain is 0. The methods are Student's t with the bootstrap's variance
(used for gains and scores), the expanded percentile interval (used for counts and correlations), the percentile
interval and BCa.

With `--advantage`, the first system makes fewer errors by this share. Then the intervals of the gain and of both scores
are tested. The truth is the value expected of test sets of this size. COCO's average precision is higher on few images
than on many: it interpolates precision by a maximum. The bias against a large population is printed, too.
"""

import argparse
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from tqdm import tqdm

from models.tasks.predictions import DetectionPrediction
from pipeline.metrics import Records
from pipeline.metrics.detection import Boxes, match_detections
from pipeline.metrics.detection_records import DetectionRecords
from pipeline.metrics.segmentation import PixelCounts, SegmentationRecords
from pipeline.statistics.comparison import variance_components
from pipeline.statistics.resampling import LEVEL, group_weights, percentile_interval

CLASSES = ("car", "person", "sign")
SIDE = 256
Pair = tuple[Records, Records]
Simulation = Callable[..., Pair]  # (generator, images, advantage=0.0)


def detection_pair(generator: np.random.Generator, images: int, advantage: float = 0.0) -> Pair:
    """Two detectors on the same images; both find the same images hard, the first one less so by `advantage`."""
    names = [f"{index:04d}" for index in range(images)]
    truth = {name: _objects(generator) for name in names}
    hardness = generator.beta(2, 2, images)
    sizes = dict.fromkeys(names, (SIDE, SIDE))

    def detector(ease: float) -> DetectionRecords:
        pairs = zip(names, hardness * (1 - ease), strict=True)
        predictions = {name: _detect(generator, truth[name], hard) for name, hard in pairs}
        return match_detections(predictions, truth, CLASSES, sizes)

    return detector(advantage), detector(0.0)


def _objects(generator: np.random.Generator) -> Boxes:
    count = generator.poisson(3)
    corner = generator.uniform(0, SIDE * 0.7, (count, 2))
    extent = generator.uniform(SIDE * 0.05, SIDE * 0.3, (count, 2))
    return Boxes(np.hstack([corner, corner + extent]), generator.choice(3, count, p=[0.6, 0.3, 0.1]))


def _detect(generator: np.random.Generator, truth: Boxes, hardness: float) -> DetectionPrediction:
    """Some objects missed, some boxes shifted, some invented."""
    seen = generator.random(len(truth.classes)) > 0.6 * hardness
    boxes = truth.boxes[seen]
    extent = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    boxes = boxes + generator.normal(0, 0.02 + 0.1 * hardness, boxes.shape) * extent
    boxes = np.hstack([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])])
    invented = _objects(generator)
    scores = np.concatenate(
        [generator.beta(5 - 3 * hardness, 2, seen.sum()), generator.beta(1.5, 4, len(invented.classes))]
    )
    classes = np.concatenate([truth.classes[seen], invented.classes])
    return DetectionPrediction(np.vstack([boxes, invented.boxes]), scores, classes)


def segmentation_pair(generator: np.random.Generator, images: int, advantage: float = 0.0) -> Pair:
    """Two segmenters: pixels of each class lost to others, more of them on hard images, fewer by the first one."""
    pixels = generator.dirichlet([4, 2, 1, 0.3], images) * 10_000
    hardness = generator.beta(2, 5, (images, 1))

    def segmenter(ease: float) -> SegmentationRecords:
        rate = np.clip((1 - ease) * hardness * generator.lognormal(0, 0.5, pixels.shape), 0, 1)
        missed = (pixels * rate).round().astype(np.int64)
        target = (np.arange(4) + generator.integers(1, 4, pixels.shape)) % 4
        false = np.stack([(missed * (target == index)).sum(axis=1) for index in range(4)], axis=1)
        tp = pixels.round().astype(np.int64) - missed
        counts = [PixelCounts(*row) for row in zip(tp, false, missed, strict=True)]
        return SegmentationRecords.stack([f"{n:04d}" for n in range(images)], counts, ["a", "b", "c", "d"])

    return segmenter(advantage), segmenter(0.0)


def bca_interval(
    gain: Callable[[NDArray[np.float64]], NDArray[np.float64]], resampled: NDArray[np.float64], images: int
) -> tuple[float, float]:
    """SciPy's bias-corrected and accelerated interval around an existing bootstrap distribution."""

    def statistic(indices: NDArray[np.int64], axis: int = -1) -> NDArray[np.float64]:
        rows = np.moveaxis(np.atleast_2d(indices), axis, -1)
        counts = np.stack([np.bincount(row, minlength=images) for row in rows]).astype(np.float64)
        return gain(counts).reshape(np.shape(indices)[:-1])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # degenerate data: the NaN that comes back is counted below
        result = stats.bootstrap(
            (np.arange(images),),
            statistic,
            n_resamples=0,
            bootstrap_result=SimpleNamespace(bootstrap_distribution=resampled),
            method="BCa",
            confidence_level=LEVEL,
            vectorized=True,
        )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def one_repeat(
    pair: Pair, weights: NDArray[np.int64], other_methods: bool
) -> Iterable[tuple[str, str, tuple[float, float]]]:
    """Yield (metric, method, interval of the gain); `other_methods` adds the percentile intervals and BCa."""
    ours, theirs = (records.metrics(weights) for records in pair)
    ours_once, theirs_once = (records.metrics() for records in pair)
    images = weights.shape[1]
    for metric in ours:
        resampled = ours[metric] - theirs[metric]
        gain = ours_once[metric] - theirs_once[metric]
        yield metric, "t", variance_components(gain, resampled[None], images).interval()
        if other_methods:
            yield metric, "expanded", percentile_interval(resampled, images)
            low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            yield metric, "percentile", (float(low), float(high))
            yield metric, "BCa", bca_interval(partial(_gain, pair, metric), resampled, images)


def _gain(pair: Pair, metric: str, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    ours, theirs = (records.metrics(weights)[metric] for records in pair)
    return ours - theirs


def coverage(
    simulate: Simulation, repeats: int, images: int, resamples: int, seed: int, other_methods: bool = True
) -> dict[tuple[str, str], tuple[float, float]]:
    """{(metric, method): (share of intervals that cover 0, share that are undefined)}."""
    intervals: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for repeat in range(repeats):
        pair = simulate(np.random.default_rng([seed, repeat]), images)
        weights = group_weights(np.arange(images), resamples, seed=repeat)
        for metric, method, found in one_repeat(pair, weights, other_methods):
            intervals.setdefault((metric, method), []).append(found)
    return {
        key: (
            float(np.mean([low <= 0 <= high for low, high in found])),
            float(np.mean([np.isnan(low) for low, _ in found])),
        )
        for key, found in intervals.items()
    }


def unequal_coverage(
    simulate: Simulation, repeats: int, images: int, resamples: int, seed: int, advantage: float, population: int
) -> Iterable[str]:
    """Yield a line for each metric and estimate: how often its interval covers the value expected of sets of this size.

    Also how far that value lies from the one of a large population, in standard errors of the estimate.
    """
    values: dict[tuple[str, str], list[float]] = {}
    half_widths: dict[tuple[str, str], list[float]] = {}
    for repeat in tqdm(range(repeats), desc=simulate.__name__, mininterval=30):
        pair = simulate(np.random.default_rng([seed, repeat]), images, advantage)
        weights = group_weights(np.arange(images), resamples, seed=repeat)
        for key, resampled in _estimates(pair, weights).items():
            value = _estimates(pair, None)[key]
            low, high = variance_components(value, resampled[None], images).interval()
            values.setdefault(key, []).append(float(value[0]))
            half_widths.setdefault(key, []).append((high - low) / 2)
    limits = _estimates(simulate(np.random.default_rng([seed]), population, advantage), None)
    for key, estimates in values.items():
        expected, error = np.mean(estimates), np.std(estimates, ddof=1)
        covered = np.mean(np.abs(np.array(estimates) - expected) <= half_widths[key])
        bias = (expected - limits[key][0]) / error
        yield f"{key[0]:9} {key[1]:9} covered in {covered:.1%}, {bias:+.2f} standard errors above {population} images"


def _estimates(pair: Pair, weights: NDArray[np.int64] | None) -> dict[tuple[str, str], NDArray[np.float64]]:
    """{(metric, "score", "baseline" or "gain"): (R,)}"""
    ours, theirs = (records.metrics(weights) for records in pair)
    return {
        (metric, name): value
        for metric in ours
        for name, value in (
            ("score", ours[metric]),
            ("baseline", theirs[metric]),
            ("gain", ours[metric] - theirs[metric]),
        )
    }


def main() -> None:
    """Print one line for each metric and method, or for each metric and estimate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("repeats", 1000), ("images", 100), ("resamples", 500), ("seed", 0), ("population", 20000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--advantage", type=float, help="share of errors that the first system makes less")
    settings = parser.parse_args()
    error = np.sqrt(LEVEL * (1 - LEVEL) / settings.repeats)
    for simulate in (detection_pair, segmentation_pair):
        counts = settings.repeats, settings.images, settings.resamples, settings.seed
        if settings.advantage is not None:
            for line in unequal_coverage(simulate, *counts, settings.advantage, settings.population):
                print(line, flush=True)
            continue
        for (metric, method), (covered, undefined) in coverage(simulate, *counts).items():
            share = f"{covered:.1%} +- {error:.1%}, undefined {undefined:.1%}"
            print(f"{metric:9} {method:11} covers 0 in {share}")


if __name__ == "__main__":
    main()
