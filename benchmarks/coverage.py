"""How often do intervals and verdicts err? Simulated studies with a known truth, through `pipeline.statistics.compare`.

    python -m benchmarks.coverage [--repeats 2000] [--resamples 500] [--seed 0] [--part PART]

A study has G groups of images (4 each, but in `sizes`), two objectives and K trainings of each. Images of one group are
alike (intra-group correlation), trainings of one objective differ by their seeds. q is the standard deviation of a
training's gain over the standard error that the choice of images alone gives. Prints Markdown tables for
docs/explanation/statistics.md:

    null      how often the 95 % interval excludes the truth, where the two objectives are equally good
    unequal   the same for a variant that is better and noisier, with skewed errors
    family    how often one of 12 Holm-corrected comparisons has a verdict although nothing differs
    power     how often a gain is found
    sizes     as null, with groups of very different sizes
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from pipeline.statistics.comparison import FEWEST_FOR_VERDICTS, Comparison, compare
from pipeline.statistics.resampling import holm

IMAGES = 4  # of each group
TRAININGS = (1, 3, 5, 10)
SEED_SPREADS = (0, 1, 2, 4)
GROUPS = (8, 20, 50)
CORRELATIONS = (0.0, 0.6)
UNEQUAL_GROUPS = ((30, 20, 10, 10, 5, 5, 5, 5), (80, *[20] * 9), (40, 30, 20, 20, *[10] * 4, *[5] * 6))
FAMILY = 12
LEVEL = 0.95
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """A table of one score for each image; the metric is their mean."""

    image_ids: tuple[str, ...]
    scores: Floats  # (N,)

    def metrics(self, weights: ArrayLike | None = None) -> dict[str, Floats]:
        """{"score": (R,)}: the weighted means."""
        taken = np.ones((1, len(self.scores))) if weights is None else np.asarray(weights, dtype=float)
        return {"score": taken @ self.scores / taken.sum(axis=1)}


@dataclass(frozen=True)
class Study:
    """What is simulated.

    Attributes:
        sizes: the number of images in each of G groups.
        trainings: K of each objective.
        seed_spread: q.
        correlation: of two images of one group.
        gain: the true gain, in standard errors from the choice of images.
        unequal: the variant's errors are skewed and twice as large as the baseline's.
    """

    sizes: tuple[int, ...]
    trainings: int
    seed_spread: float
    correlation: float
    gain: float = 0.0
    unequal: bool = False

    @property
    def standard_error(self) -> float:
        """Of the gain, from the choice of images alone."""
        images, pairs = sum(self.sizes), sum(size**2 for size in self.sizes)
        of_mean = (self.correlation * pairs + (1 - self.correlation) * images) / images**2
        return float(np.sqrt((2.5 if self.unequal else 1.0) * of_mean))

    def run(self, generator: np.random.Generator, resamples: int) -> Comparison:
        """One study: simulated tables of both objectives, compared."""
        labels = np.repeat(np.arange(len(self.sizes)), self.sizes)
        image_ids = tuple(f"{image:04d}" for image in range(len(labels)))
        variant_errors = (np.sqrt(2.0) if self.unequal else np.sqrt(0.5)) * self._errors(generator, self.unequal)
        baseline_errors = np.sqrt(0.5) * self._errors(generator, False)
        tables: dict[str, list[Scores]] = {"variant": [], "baseline": []}
        for name, errors in (("variant", variant_errors), ("baseline", baseline_errors)):
            for _ in range(self.trainings):
                luck = self.seed_spread * self.standard_error * generator.normal() / np.sqrt(2)
                own = 0.25 * self._errors(generator, False)  # what a training does to single images
                gain = self.gain * self.standard_error if name == "variant" else 0.0
                tables[name].append(Scores(image_ids, errors + own + luck + gain))
        return compare(tables["variant"], tables["baseline"], groups=labels, resamples=resamples)["score"]

    def _errors(self, generator: np.random.Generator, skewed: bool) -> Floats:
        """(N,) errors of mean 0 and variance 1, alike within groups."""
        draw = (
            (lambda size: generator.exponential(size=size) - 1)
            if skewed
            else (lambda size: generator.normal(size=size))
        )
        shared = np.sqrt(self.correlation) * np.repeat(draw(len(self.sizes)), self.sizes)
        return shared + np.sqrt(1 - self.correlation) * draw(sum(self.sizes))


def exclusion(study: Study, repeats: int, resamples: int, seed: int) -> float:
    """The share of studies whose interval excludes the true gain; NaN if no interval is printed."""
    results = [study.run(np.random.default_rng([seed, repeat]), resamples) for repeat in range(repeats)]
    truth = study.gain * study.standard_error
    excluded = [not result.low <= truth <= result.high for result in results if not result.reason]
    return float(np.mean(excluded)) if excluded else float("nan")


def family_error(study: Study, repeats: int, resamples: int, seed: int) -> float:
    """The share of families of 12 comparisons with a false verdict; NaN if verdicts are withheld."""
    if study.trainings < FEWEST_FOR_VERDICTS:
        return float("nan")
    false = 0
    for repeat in range(repeats):
        generator = np.random.default_rng([seed, repeat])
        p_values = [study.run(generator, resamples).p_value for _ in range(FAMILY)]
        false += min(holm(p_values)) < 1 - LEVEL
    return false / repeats


def power(study: Study, repeats: int, resamples: int, seed: int) -> float:
    """The share of studies whose interval lies above 0."""
    results = [study.run(np.random.default_rng([seed, repeat]), resamples) for repeat in range(repeats)]
    return float(np.mean([result.low > 0 for result in results]))


def table(title: str, rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[float]]) -> str:
    """A Markdown table of percentages; "-" for what is not printed."""
    lines = [f"**{title}**", "", "| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row, values in zip(rows, cells, strict=True):
        lines.append(
            f"| {row} | " + " | ".join("-" if np.isnan(value) else f"{100 * value:.1f}" for value in values) + " |"
        )
    return "\n".join([*lines, ""])


PARTS = {
    "null": ("exclusion of the truth, no gain, %", exclusion, 0.0, False),
    "unequal": ("exclusion of the truth, unequal and skewed, %", exclusion, 2.0, True),
    "family": ("families of 12 with a false verdict, %", family_error, 0.0, False),
    "sizes": ("exclusion of the truth, groups of unequal size, no gain, %", exclusion, 0.0, False),
    "power": ("intervals above 0 for a gain of 3 standard errors, %", power, 3.0, False),
}


def simulate(part: str, repeats: int, resamples: int, seed: int) -> str:
    """The table of one part."""
    title, measure, gain, unequal = PARTS[part]
    columns = list(product(TRAININGS, SEED_SPREADS))
    sizes = UNEQUAL_GROUPS if part == "sizes" else [(IMAGES,) * groups for groups in GROUPS]
    rows = list(product(sizes, CORRELATIONS))
    cells: list[list[float]] = []
    with tqdm(total=len(rows) * len(columns), desc=part, unit="cell", mininterval=30) as bar:
        for of_groups, correlation in rows:
            cells.append([])
            for trainings, spread in columns:
                study = Study(of_groups, trainings, spread, correlation, gain, unequal)
                cells[-1].append(measure(study, repeats, resamples, seed))
                bar.update()
    return table(
        title,
        [f"{len(of_groups)} groups, correlation {correlation}" for of_groups, correlation in rows],
        [f"K={trainings}, q={spread}" for trainings, spread in columns],
        cells,
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("repeats", 2000), ("resamples", 500), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--part", choices=PARTS, help="only this table")
    options = parser.parse_args()
    for part in (options.part,) if options.part else PARTS:
        print(simulate(part, options.repeats, options.resamples, options.seed), flush=True)


if __name__ == "__main__":
    main()
