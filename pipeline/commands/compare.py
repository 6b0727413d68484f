"""Two revisions compared: what changed in parameters, scores and gains, and whether it is more than noise.

The records of both are in DVC's cache, so that nothing is run again. Where both were scored on the same images (the
same bytes, and the same labels), the change is resampled in pairs; otherwise its interval is that of independent
samples, which is wider. Not a stage.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.commands.revisions import Cells, Revision, flat
from pipeline.metrics import find_metric
from pipeline.reporting.markdown import table
from pipeline.running.artifacts import TRAINING
from pipeline.settings.grammar import CLEAN
from pipeline.settings.grammar import DEGRADED, parse_arm
from pipeline.settings.params import Params, load_params
from pipeline.statistics.resampling import bootstrap_p_value, holm, percentile_interval
from pipeline.statistics.scores import Cell, Resampled, read_cells

OPTION = "--compare"
SCORE, GAIN = "score", "gain over degraded"
ABSENT = "(none)"
UNSURE = "not sure after correction"


@dataclass(frozen=True)
class Change:
    """What became of one number: `adjusted` is its p-value after Holm's correction, NaN where nothing changed."""

    task: str
    degradation: str
    variant: str
    metric: str
    kind: str
    before: float
    after: float
    low: float
    high: float
    p_value: float
    paired: bool
    same: bool
    adjusted: float = float("nan")


@dataclass(frozen=True)
class Comparison:
    """Two revisions side by side.

    Attributes:
        names: A and B.
        knobs: (name, value in A, value in B) of the parameters that differ.
        changes: of every number that both have.
        only: sentences about what only one of them has.
        trainings: how often restorers were trained, in the revision where it was less.
    """

    names: tuple[str, str]
    knobs: list[tuple[str, str, str]]
    changes: list[Change]
    only: list[str]
    trainings: int


def compare(params: Params, before: Revision, after: Revision) -> Comparison:
    """All changes of parameters, scores and gains, and what only one of the two has.

    Args:
        params: seed, number of resamples and level of the intervals.
        before: revision A.
        after: revision B; changes are B - A.

    Raises:
        pipeline.commands.revisions.RevisionError: a revision without results.
    """
    theirs, ours = before.cells(), after.cells()
    changes: list[Change] = []
    for task, degradation in (key for key in theirs if key in ours):
        key = (task, degradation)
        one, other = _read(params, before, theirs[key]), _read(params, after, ours[key])
        same_ids = one[DEGRADED].image_ids == other[DEGRADED].image_ids
        paired = same_ids and _same_images(before, after, theirs, ours, key)
        changes += _changes(key, one, other, paired, params.statistics.level)
    knobs = before.params(), after.params()
    trainings = [dict(flat(values)).get("train_restorer.repeats", 1) for values in knobs]
    names, only = (before.name, after.name), _only_one(before, after, theirs, ours)
    return Comparison(names, changed_params(*knobs), _adjusted(changes), only, min(trainings))


def changed_params(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(name, value in A, value in B) of every parameter that differs."""
    one, other = dict(flat(before)), dict(flat(after))
    names = [*one, *(name for name in other if name not in one)]
    return [
        (name, str(one.get(name, ABSENT)), str(other.get(name, ABSENT)))
        for name in names
        if one.get(name, ABSENT) != other.get(name, ABSENT)
    ]


def page(comparison: Comparison, level: float) -> str:
    """The comparison as Markdown, which also reads in a terminal."""
    knobs, changes = comparison.knobs, comparison.changes
    parts = ["# {} (A) against {} (B)".format(*comparison.names)]
    parts += ["## Parameters", table(["parameter", "A", "B"], knobs) if knobs else "They are the same."]
    for kind, heading in ((GAIN, "## Gains over the degraded images"), (SCORE, "## Scores")):
        own = [change for change in changes if change.kind == kind]
        moved = [change for change in own if not change.same]
        parts.append(heading)
        if moved:
            header = ["task", "degradation", "arm", "metric", "A", "B", "B - A", "interval", "p (Holm)", "verdict"]
            parts.append(table(header, [_row(change, level) for change in moved]))
        if len(own) > len(moved):
            parts.append(f"{len(own) - len(moved)} of {len(own)} did not change at all: no image scores otherwise.")
    parts += [f"- {line}" for line in comparison.only]
    return "\n\n".join([*parts, _notes(comparison, level)]) + "\n"


def _notes(comparison: Comparison, level: float) -> str:
    changes = comparison.changes
    notes = [f"Intervals: {100 * level:g} %, bootstrap over images. p is Holm's, over the changes of each table."]
    apart = list(dict.fromkeys(f"{c.task} on {c.degradation}" for c in changes if not c.paired))
    if apart:
        notes.append(
            f"Not the same images in A and B, so that intervals are of independent samples: {', '.join(apart)}."
        )
    if any(UNSURE in verdict(change, level) for change in changes):
        notes.append(
            "Where an interval leaves out 0 but p is too large, p was corrected for the number of changes; more "
            "statistics.resamples let it be smaller."
        )
    if comparison.trainings < 2:
        notes.append(
            "Restorers were trained once: what another seed of the training would change is not in the intervals "
            "(train_restorer.repeats measures it)."
        )
    return " ".join(notes)


def _read(params: Params, revision: Revision, variants: dict[str, list[str]]) -> Cell:
    with tempfile.TemporaryDirectory() as scratch:
        folders = {name: revision.fetch(paths, Path(scratch) / name) for name, paths in variants.items()}
        return read_cells(params, folders).whole


def _same_images(before: Revision, after: Revision, theirs: Cells, ours: Cells, key: tuple[str, str]) -> bool:
    """Whether both revisions scored the same images with the same labels.

    Degraded copies may differ: they are of the same clean images. Real photos have no clean ones.
    """
    degradation = key[1]
    for found in (theirs, ours):
        clean = next((own[CLEAN] for (_, name), own in found.items() if name == degradation and CLEAN in own), None)
        for path in clean or found[key][DEGRADED]:
            split = path.split("/")[-2].partition(TRAINING)[0]
            one, other = (revision.digests(None if clean else degradation, split) for revision in (before, after))
            if not one or one != other:
                return False
    return True


def _changes(key: tuple[str, str], theirs: Cell, ours: Cell, paired: bool, level: float) -> Iterator[Change]:
    for variant in (name for name in theirs if name in ours):
        pairs = {SCORE: (theirs[variant], ours[variant])}
        arm = parse_arm(variant)
        if variant != DEGRADED and (arm is None or arm.retrained):  # restored clean images gain nothing over degraded
            one, other = (_minus(cell[variant], cell[DEGRADED], True) for cell in (theirs, ours))
            pairs[GAIN] = one, other
        for kind, (one, other) in pairs.items():
            difference = _minus(other, one, paired)
            images = len(difference.image_ids)
            for metric, resampled in difference.metrics(difference.weights).items():
                low, high = percentile_interval(resampled, images, level)
                p_value = bootstrap_p_value(resampled, images)
                values = float(one.value[metric][0]), float(other.value[metric][0])
                same = paired and not np.any(resampled)
                yield Change(*key, variant, metric, kind, *values, low, high, p_value, paired, same)


def _minus(ours: Resampled, theirs: Resampled, paired: bool) -> Resampled:
    """The difference of each metric that both have.

    Two samples that are not paired must not share their resamples: every row of weights is drawn independently of the
    others, so that the next row serves.
    """
    names = [name for name in ours.value if name in theirs.value]
    one, other = ours.metrics(ours.weights), theirs.metrics(theirs.weights)
    rolled = {name: other[name] if paired else np.roll(other[name], 1) for name in names}
    fewer = min(ours, theirs, key=lambda scores: len(scores.image_ids))
    with np.errstate(invalid="ignore"):  # inf - inf, of equal images: undefined
        value = {name: ours.value[name] - theirs.value[name] for name in names}
        return Resampled(fewer.image_ids, fewer.weights, value, {name: one[name] - rolled[name] for name in names})


def _adjusted(changes: list[Change]) -> list[Change]:
    """With p-values for two families, scores and gains: of everything in each that changed."""
    found = []
    for kind in (SCORE, GAIN):
        own = [change for change in changes if change.kind == kind]
        p_values = holm([float("nan") if change.same else change.p_value for change in own])
        found += [replace(change, adjusted=p) for change, p in zip(own, p_values, strict=True)]
    return found


def _only_one(before: Revision, after: Revision, theirs: Cells, ours: Cells) -> list[str]:
    lines = []
    for revision, own, other in ((before, theirs, ours), (after, ours, theirs)):
        for key, variants in own.items():
            missing = [name for name in variants if name not in other.get(key, {})]
            if missing:
                lines.append(f"Only {revision.name} has {key[0]} on {key[1]}: {', '.join(missing)}.")
    return lines


def _row(change: Change, level: float) -> list[str]:
    digits = find_metric(change.metric).gain_digits
    sign = "+" if change.kind == GAIN else ""
    return [
        *(change.task, change.degradation, change.variant, change.metric),
        *(f"{value:{sign}.{digits}f}" for value in (change.before, change.after)),
        f"{change.after - change.before:+.{digits}f}",
        f"{change.low:+.{digits}f} to {change.high:+.{digits}f}",
        f"{change.adjusted:.3f}",
        verdict(change, level),
    ]


def verdict(change: Change, level: float) -> str:
    """In words: whether a change is more than noise."""
    if np.isnan(change.adjusted):
        return "unchanged" if change.same else "undefined"
    direction = "rose" if change.after > change.before else "fell"
    if change.adjusted < 1 - level:
        return f"{direction}, more than noise"
    return f"{direction}, {UNSURE}" if change.low > 0 or change.high < 0 else "within noise"


def main() -> None:
    """Command line: python -m pipeline.report --compare A B."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.report", description=__doc__)
    parser.add_argument(OPTION, nargs=2, metavar=("A", "B"), required=True, help="revisions, experiments, or workspace")
    parser.add_argument("--out", type=Path, help="also write the comparison to this Markdown file")
    options = parser.parse_args()
    params = load_params()
    text = page(compare(params, *map(Revision, options.compare)), params.statistics.level)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text)
    print(text)
