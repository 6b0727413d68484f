"""How often does the interval of a crossover contain it? Simulated sweeps with a known truth.

    python -m benchmarks.crossovers [--repeats 1000] [--resamples 500] [--seed 0]

A study has five severities, G images and K trainings. The true gain rises to a peak between the third and the fourth
severity, and falls: restoring starts to help at 0.7 and stops at 3.6, on the scale 0 to 4. What is hard about an image
is half shared by the severities. Units are standard errors of a gain from the choice of images; trainings differ by q
of them, alike at all severities. Prints Markdown tables for docs/explanation/statistics.md: how often the intervals of
both crossovers contain them, and how often they are open, which contains everything on that side.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from tqdm import tqdm

from benchmarks.coverage import Floats, Scores
from pipeline.statistics.crossovers import HelpfulRange, helpful_range
from pipeline.statistics.resampling import Resamples
from pipeline.statistics.systems import System

SEVERITIES = np.arange(5.0)
STARTS, STOPS, PEAK = 0.7, 3.6, 2.2
SHARED = 0.5  # of an image's variance
GROUPS = (8, 20, 50)
SLOPES = (2, 6)  # standard errors by which the gain changes from one severity to the next
TRAININGS = ((1, 0.0), (3, 1.0), (5, 1.0))  # K and q


@dataclass(frozen=True)
class Study:
    """What is simulated.

    Attributes:
        groups: G independent images.
        slope: of the true gain, in standard errors per severity.
        trainings: K.
        seed_spread: q.
    """

    groups: int
    slope: float
    trainings: int
    seed_spread: float

    @property
    def gains(self) -> Floats:
        """The true gain at each severity, for images of variance 1."""
        rising, falling = SEVERITIES - STARTS, STOPS - SEVERITIES
        gains: Floats = self.slope * np.where(SEVERITIES < PEAK, rising, falling) / np.sqrt(self.groups)
        return gains

    def run(self, generator: np.random.Generator, resamples: int) -> HelpfulRange:
        """One study: simulated gains of all images, severities and trainings, and where they are positive."""
        image_ids = tuple(f"{image:04d}" for image in range(self.groups))
        shared = np.sqrt(SHARED) * generator.normal(size=self.groups)
        luck = self.seed_spread * generator.normal(size=self.trainings) / np.sqrt(self.groups)
        draws = Resamples.draw(np.arange(self.groups), resamples, int(generator.integers(2**31)))
        systems = []
        for gain in self.gains:
            of_images = gain + shared + np.sqrt(1 - SHARED) * generator.normal(size=self.groups)
            tables = [Scores(image_ids, of_images + of_training) for of_training in luck]
            systems.append(System.from_tables(tables, draws, trained=True))
        return helpful_range(systems, "score")


def measure(study: Study, repeats: int, resamples: int, seed: int) -> tuple[list[float], list[float]]:
    """The shares of the intervals of both crossovers that contain them, and of those that are open."""
    ranges = [study.run(np.random.default_rng([seed, repeat]), resamples) for repeat in range(repeats)]
    ends = [
        np.array([(result.starts_low, result.starts_high) for result in ranges]),
        np.array([(result.stops_low, result.stops_high) for result in ranges]),
    ]
    contained = [
        float(((low <= truth) & (truth <= high)).mean())
        for truth, (low, high) in zip((STARTS, STOPS), (end.T for end in ends), strict=True)
    ]
    return contained, [float(np.isinf(end).any(axis=1).mean()) for end in ends]


def table(title: str, rows: Sequence[str], cells: Sequence[Sequence[Sequence[float]]]) -> str:
    """A Markdown table of percentages: start / stop in each cell."""
    columns = [f"K={trainings}, q={spread:g}" for trainings, spread in TRAININGS]
    lines = [f"**{title}**", "", "| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row, values in zip(rows, cells, strict=True):
        texts = (" / ".join(f"{100 * share:.1f}" for share in pair) for pair in values)
        lines.append(f"| {row} | {' | '.join(texts)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("repeats", 1000), ("resamples", 500), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    rows, contained, open_ends = [], [], []
    for groups, slope in tqdm(list(product(GROUPS, SLOPES)), unit="row"):
        rows.append(f"{groups} images, slope {slope}")
        studies = [Study(groups, slope, trainings, spread) for trainings, spread in TRAININGS]
        measured = [measure(study, options.repeats, options.resamples, options.seed) for study in studies]
        contained.append([shares for shares, _ in measured])
        open_ends.append([shares for _, shares in measured])
    print(table("intervals that contain the crossover, start / stop, %", rows, contained))
    print(table("intervals that are open, start / stop, %", rows, open_ends))


if __name__ == "__main__":
    main()
