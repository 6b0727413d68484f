"""Command: compare two revisions: which parameters, scores and gains changed, and whether by more than noise.

    python -m pipeline.commands.compare HEAD workspace

The records of both are in DVC's cache, so no stage runs. If both revisions scored the same images with the same labels,
the change is resampled in pairs. Otherwise its interval is that of independent samples, which is wider.
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.commands.revisions import Cells, Revision, flat
from pipeline.metrics import find_metric
from pipeline.reporting.markdown import table
from pipeline.running.artifacts import TRAINING
from pipeline.running.entry import run_command
from pipeline.settings.grammar import CLEAN, DEGRADED, parse_arm
from pipeline.settings.params import Params, load_params
from pipeline.statistics.comparison import FEWEST_FOR_VERDICTS, estimate
from pipeline.statistics.resampling import holm
from pipeline.statistics.scores import Cell, read_cells

SCORE, GAIN = "score", "gain over degraded"
ABSENT = "(none)"
UNSURE = "not sure after correction"


@dataclass(frozen=True)
class Change:
    """The change of one number between two revisions.

    Attributes:
        kind: SCORE or GAIN.
        before: value in revision A.
        after: value in revision B.
        low: lower end of the interval of after - before.
        high: upper end.
        p_value: of the change.
        paired: whether both revisions scored the same images.
        same: whether no image has another score.
        adjusted: the p-value after Holm's correction; NaN if nothing changed or there is no verdict.
        trainings: how many trainings of each revision are compared.
        trained: whether another seed of the training would give another change.
        reason: why there is no interval; "" if there is one.
    """

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
    trainings: int = 1
    trained: bool = False
    reason: str = ""

    @property
    def withheld(self) -> bool:
        """Whether the trainings are too few for a corrected p-value."""
        return 1 < self.trainings < FEWEST_FOR_VERDICTS


@dataclass(frozen=True)
class Comparison:
    """Two revisions side by side.

    Attributes:
        names: of revisions A and B.
        params: (name, value in A, value in B) of the parameters that differ.
        changes: of every number that both revisions have.
        missing: sentences about results that only one revision has.
        trainings: number of trainings of each restorer; the smaller one of the two revisions.
    """

    names: tuple[str, str]
    params: list[tuple[str, str, str]]
    changes: list[Change]
    missing: list[str]
    trainings: int


def compare(params: Params, before: Revision, after: Revision) -> Comparison:
    """All changes of parameters, scores and gains between two revisions, and the results that only one of them has.

    Args:
        params: seed, number of resamples, and level of the intervals.
        before: revision A.
        after: revision B; changes are B - A.

    Raises:
        pipeline.commands.revisions.RevisionError: a revision has no results.
    """
    cells_before, cells_after = before.cells(), after.cells()
    changes: list[Change] = []
    for key in (key for key in cells_before if key in cells_after):
        same_images = _same_images(before, after, cells_before, cells_after, key)
        groups_after = after.groups(key[1])
        groups_before = groups_after if same_images else before.groups(key[1])
        scores_before = _read_scores(params, before, cells_before[key], groups_before)
        scores_after = _read_scores(params, after, cells_after[key], groups_after)
        paired = same_images and scores_before[DEGRADED].image_ids == scores_after[DEGRADED].image_ids
        changes += _changes(key, scores_before, scores_after, paired, params.statistics.level)
    params_before, params_after = before.params(), after.params()
    return Comparison(
        names=(before.name, after.name),
        params=changed_params(params_before, params_after),
        changes=_with_adjusted_p(changes),
        missing=_missing_results(before, after, cells_before, cells_after),
        trainings=min(dict(flat(p)).get("train_restorer.repeats", 1) for p in (params_before, params_after)),
    )


def changed_params(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(name, value in A, value in B) of every parameter that differs."""
    values_before, values_after = dict(flat(before)), dict(flat(after))
    changed = []
    for name in dict.fromkeys([*values_before, *values_after]):
        value_before, value_after = values_before.get(name, ABSENT), values_after.get(name, ABSENT)
        if value_before != value_after:
            changed.append((name, str(value_before), str(value_after)))
    return changed


def comparison_page(comparison: Comparison, level: float) -> str:
    """The comparison as Markdown, which also reads in a terminal."""
    params = comparison.params
    parts = ["# {} (A) against {} (B)".format(*comparison.names)]
    parts += ["## Parameters", table(["parameter", "A", "B"], params) if params else "They are the same."]
    for kind, heading in ((GAIN, "## Gains over the degraded images"), (SCORE, "## Scores")):
        changes = [change for change in comparison.changes if change.kind == kind]
        moved = [change for change in changes if not change.same]
        parts.append(heading)
        if moved:
            header = ["task", "degradation", "variant", "metric", "A", "B", "B - A", "interval", "p (Holm)", "verdict"]
            parts.append(table(header, [_row(change, level) for change in moved]))
        if len(changes) > len(moved):
            parts.append(
                f"{len(changes) - len(moved)} of {len(changes)} did not change: every image has the same score."
            )
    parts += [f"- {line}" for line in comparison.missing]
    return "\n\n".join([*parts, _notes(comparison, level)]) + "\n"


def _notes(comparison: Comparison, level: float) -> str:
    changes = comparison.changes
    notes = [
        f"Intervals: {100 * level:g} %, bootstrap over images or their groups, with the variance between trainings. p "
        "is corrected by Holm over the changes of each table."
    ]
    unpaired = list(dict.fromkeys(f"{c.task} on {c.degradation}" for c in changes if not c.paired))
    if unpaired:
        notes.append(
            f"Not the same images in A and B: {', '.join(unpaired)}. Intervals there are of independent samples."
        )
    if any(UNSURE in verdict(change, level) for change in changes):
        notes.append("If an interval excludes 0 but p is too large, p was corrected for the number of changes.")
    if comparison.trainings < 2:
        notes.append(
            "Restorers were trained once: the intervals do not cover another training seed (train_restorer.repeats "
            "measures it)."
        )
    if any(change.withheld for change in changes):
        notes.append(
            f"No verdict: it needs {FEWEST_FOR_VERDICTS} trainings in both revisions (train_restorer.repeats)."
        )
    return " ".join(notes)


def _read_scores(params: Params, revision: Revision, variants: dict[str, list[str]], groups: Mapping[str, str]) -> Cell:
    with tempfile.TemporaryDirectory() as scratch:
        folders = {name: revision.fetch(paths, Path(scratch) / name) for name, paths in variants.items()}
        return read_cells(params, folders, groups=groups).whole


def _same_images(
    before: Revision, after: Revision, cells_before: Cells, cells_after: Cells, key: tuple[str, str]
) -> bool:
    """Whether both revisions scored the same images with the same labels.

    Degraded copies may differ if their clean images are the same. Real photos have no clean images.
    """
    degradation = key[1]
    for cells in (cells_before, cells_after):
        clean = next(
            (paths[CLEAN] for (_, name), paths in cells.items() if name == degradation and CLEAN in paths), None
        )
        for path in clean or cells[key][DEGRADED]:
            split = path.split("/")[-2].partition(TRAINING)[0]
            digests = before.digests(None if clean else degradation, split)
            if not digests or digests != after.digests(None if clean else degradation, split):
                return False
    return True


def _changes(key: tuple[str, str], before: Cell, after: Cell, paired: bool, level: float) -> Iterator[Change]:
    """Every change of one task and degradation; trainings of both revisions are paired by their order."""
    for variant in (name for name in before if name in after):
        trainings = min(before[variant].trainings, after[variant].trainings)
        pairs = {SCORE: (before[variant].first(trainings), after[variant].first(trainings))}
        arm = parse_arm(variant)
        if variant != DEGRADED and (arm is None or arm.retrained):  # restored clean images gain nothing over degraded
            old, new = pairs[SCORE]
            pairs[GAIN] = (old.minus(before[DEGRADED]), new.minus(after[DEGRADED]))
        for kind, (old, new) in pairs.items():
            difference = new.minus(old if paired else old.in_other_resamples())
            for metric, change in estimate(difference, level).items():
                values = float(old.values[metric].mean()), float(new.values[metric].mean())
                same = paired and not np.any(difference.resampled[metric])
                yield Change(
                    *(*key, variant, metric, kind, *values, change.low, change.high, change.p_value, paired, same),
                    trainings=trainings,
                    trained=variant not in (CLEAN, DEGRADED),
                    reason=change.reason,
                )


def _with_adjusted_p(changes: list[Change]) -> list[Change]:
    """The changes with p-values corrected in two families, scores and gains: over everything in each that changed."""
    adjusted = []
    for kind in (SCORE, GAIN):
        family = [change for change in changes if change.kind == kind]
        p_values = holm([float("nan") if change.same or change.withheld else change.p_value for change in family])
        adjusted += [replace(change, adjusted=p) for change, p in zip(family, p_values, strict=True)]
    return adjusted


def _missing_results(before: Revision, after: Revision, cells_before: Cells, cells_after: Cells) -> list[str]:
    lines = []
    for revision, cells, other_cells in ((before, cells_before, cells_after), (after, cells_after, cells_before)):
        for key, variants in cells.items():
            missing = [name for name in variants if name not in other_cells.get(key, {})]
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
        "" if np.isnan(change.low) else f"{change.low:+.{digits}f} to {change.high:+.{digits}f}",
        "" if np.isnan(change.adjusted) else f"{change.adjusted:.3f}",
        verdict(change, level),
    ]


def verdict(change: Change, level: float) -> str:
    """Whether a change is more than noise, in words. After one training it holds for these trainings."""
    if change.same:
        return "unchanged"
    if change.withheld:
        return f"no verdict: {change.trainings} trainings"
    if change.reason:
        return f"no verdict: {change.reason}"
    direction = "rose" if change.after > change.before else "fell"
    if change.adjusted < 1 - level:
        return f"{direction}, more than noise{' (these trainings)' if change.trained and change.trainings == 1 else ''}"
    return f"{direction}, {UNSURE}" if change.low > 0 or change.high < 0 else "within noise"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.commands.compare", description=__doc__)
    for name in ("A", "B"):
        parser.add_argument(name, help="a commit, branch, tag or experiment; or `workspace`, the files as they are now")
    parser.add_argument("--out", type=Path, help="also write the comparison to this Markdown file")
    options = parser.parse_args()
    params = load_params()
    text = comparison_page(compare(params, Revision(options.A), Revision(options.B)), params.statistics.level)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text)
    print(text)


if __name__ == "__main__":
    run_command(main)
