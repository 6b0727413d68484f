"""The answer of a run in sentences: does restoring help, by how much, and which loss is ahead.

Report and terminal say the same, because both take their sentences from here.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.metrics import find_metric, main_metric
from pipeline.settings.grammar import DEGRADED, DEGRADED_RETRAINED, FROZEN
from pipeline.statistics.comparison import ONE_TRAINING
from pipeline.statistics.verdicts import HELPS, HURTS, NO_HELP, UNKNOWN, WITHHELD

TONES = {HELPS: "good", HURTS: "bad", NO_HELP: "idle", UNKNOWN: "open", WITHHELD: "open"}
MOST_NAMED = 6  # pairs of task and degradation that a sentence names; more of them are counted
MOST_PAIRS = 3  # pairs of losses in the answer

Row = Mapping[str, Any]  # of verdicts.csv


@dataclass(frozen=True)
class CellAnswer:
    """The answer for one task and degradation.

    Attributes:
        task: its name.
        degradation: its name.
        gains: the main metric's gain of each objective over the degraded images, by objective: rows of verdicts.csv.
        best: the row that the answer is about: of the objectives that help the one with the largest gain; if none
            helps, the one with the largest gain of all.
        comparison: the row that says which loss is ahead; None if no two losses are compared.
        retrained: the row of `best`'s objective against `degraded-retrained`; None without this arm.
    """

    task: str
    degradation: str
    gains: Mapping[str, Row]
    best: Row
    comparison: Row | None
    retrained: Row | None = None

    @property
    def verdict(self) -> str:
        """Of the best objective."""
        return str(self.best["verdict"])

    @property
    def tone(self) -> str:
        """Good, bad, idle or open."""
        return TONES[self.verdict]

    @property
    def sentence(self) -> str:
        """Does restoring help, how much of the loss is recovered, and is another loss, or retraining, ahead."""
        verb = {
            HELPS: "restoring helps",
            HURTS: "restoring hurts",
            NO_HELP: "restoring does not help",
            UNKNOWN: f"cannot be told whether restoring helps at {_units(self.best)}",
            WITHHELD: "no verdict on restoring",
        }[self.verdict]
        parts = [f"{self.task}, {self.degradation}: {verb}"]
        if not math.isnan(self.best["gain"]):
            parts[0] += f": {self.best['metric']} {_gain(self.best)} with {self.best['variant']}"
            if self.verdict == HELPS and not math.isnan(self.best["recovered"]):
                parts[0] += f", {_recovered(self.best)} of the loss recovered"
        harmful = [name for name, row in self.gains.items() if row["verdict"] == HURTS]
        if harmful and self.verdict != HURTS:
            parts.append(f"{_listed(harmful)} {'hurts' if len(harmful) == 1 else 'hurt'}")
        for row in (self.comparison, self.retrained):
            if row is not None and not math.isnan(row["gain"]):
                parts.append(comparison_sentence(row))
        return "; ".join(parts) + "."


def cell_answers(verdicts: pd.DataFrame, objectives: Sequence[str]) -> list[CellAnswer]:
    """The answer for each task and degradation, in the order of verdicts.csv.

    Args:
        verdicts: verdicts.csv.
        objectives: of the restorers. Of the arms, only `degraded-retrained` is part of the answer.
    """
    rows = main_rows(verdicts, objectives)
    against = _rows_against([DEGRADED_RETRAINED], verdicts, objectives)
    retrained = {(row["task"], row["degradation"], row["variant"]): row for row in against.to_dict("records")}
    answers = []
    for (task, degradation), cell in rows.groupby(["task", "degradation"], sort=False):
        gains = {row["variant"]: row for row in cell[cell.versus == DEGRADED].to_dict("records")}
        if not gains:
            continue
        helpful = [row for row in gains.values() if row["verdict"] == HELPS]
        comparisons = cell[cell.versus != DEGRADED].to_dict("records")
        best = _largest(helpful or gains.values())
        of_best = retrained.get((task, degradation, best["variant"]))
        answers.append(CellAnswer(str(task), str(degradation), gains, best, _decisive(comparisons), of_best))
    return answers


def main_rows(verdicts: pd.DataFrame, objectives: Sequence[str]) -> pd.DataFrame:
    """The rows of verdicts.csv about the main metrics: objectives against the degraded images and each other."""
    return _rows_against([DEGRADED, *objectives], verdicts, objectives)


def _rows_against(baselines: Sequence[str], verdicts: pd.DataFrame, objectives: Sequence[str]) -> pd.DataFrame:
    main = {task: main_metric(task).name for task in verdicts.task.unique()}
    about = (verdicts.metric == verdicts.task.map(main)) & verdicts.variant.isin(objectives)
    return verdicts[about & verdicts.versus.isin(baselines)].fillna({"reason": ""})


def comparison_sentence(row: Row) -> str:
    """Which of two losses is ahead, and whether that is more than chance."""
    ahead, behind = (row["variant"], row["versus"]) if row["gain"] >= 0 else (row["versus"], row["variant"])
    if row["verdict"] in (HELPS, HURTS):
        low, high = sorted((abs(row["ci_low"]), abs(row["ci_high"])))
        digits = find_metric(row["metric"]).digits
        return f"{ahead} beats {behind} by {abs(row['gain']):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
    if row["gain"] == 0:
        text = f"{ahead} and {behind} are equal"
    else:
        text = f"{ahead} is {abs(row['gain']):.{find_metric(row['metric']).digits}f} ahead of {behind}"
    if row["verdict"] == WITHHELD:
        return f"{text} (no verdict)"
    return f"{text} (may be chance)"


def overall_answer(cells: Sequence[CellAnswer]) -> str:
    """Does restoring help, over all tasks and degradations, in one sentence."""
    by_verdict = {verdict: [cell for cell in cells if cell.verdict == verdict] for verdict in TONES}
    helps, hurts, no_help, unknown, withheld = by_verdict.values()
    if not cells:
        return "No objective was compared with the degraded images."
    phrases = []
    if helps:
        phrases.append(f"restoring helps {_named(helps, cells)}{_range_recovered(helps)}")
    if hurts:
        phrases.append(f"{'it' if phrases else 'restoring'} hurts {_named(hurts, cells)}")
    if no_help:
        phrases.append(f"{'it' if phrases else 'restoring'} does not help {_named(no_help, cells)}")
    if unknown:
        phrases.append(f"it cannot be told whether {'it' if phrases else 'restoring'} helps {_named(unknown, cells)}")
    if withheld:
        phrases.append(
            f"there is no verdict on whether {'it' if phrases else 'restoring'} helps {_named(withheld, cells)}"
        )
    if len(helps) == len(cells):
        lead = "Yes: "
    elif helps:
        lead = "In part: "
    elif hurts or no_help:
        lead = "Not shown: " if unknown or withheld else "No: "
    else:
        lead = ""
    text = "; ".join(phrases)
    return f"{lead}{text if lead else text[0].upper() + text[1:]}."


def overall_tone(cells: Sequence[CellAnswer]) -> str:
    """The tone of `overall_answer`: that of all cells if they agree, otherwise open."""
    tones = {cell.tone for cell in cells}
    return tones.pop() if len(tones) == 1 else "open"


def which_loss(verdicts: pd.DataFrame, objectives: Sequence[str]) -> str:
    """Which loss is ahead over all tasks and degradations, in one sentence; "" if no two objectives are compared.

    Pairs with a winner come first.
    """
    rows = main_rows(verdicts, objectives)
    between = rows[rows.versus != DEGRADED]
    if between.empty:
        return ""
    if (between.verdict == WITHHELD).all():
        reasons = list(dict.fromkeys(between.reason))
        if reasons == [ONE_TRAINING]:
            return "One training each cannot tell which loss is better."
        return f"There is no verdict on which loss is better ({'; '.join(reasons)})."
    decided, undecided = [], []
    for (variant, versus), pair in between.groupby(["variant", "versus"], sort=False):
        wins, defeats = (int((pair.verdict == verdict).sum()) for verdict in (HELPS, HURTS))
        if wins:
            decided.append(_wins(str(variant), str(versus), wins, defeats, len(pair)))
        elif defeats:
            decided.append(_wins(str(versus), str(variant), defeats, 0, len(pair)))
        else:
            undecided.append(f"{variant} and {versus} cannot be told apart")
    texts = [*decided, *undecided]
    left_out = len(texts) - MOST_PAIRS
    more = f", and {left_out} more comparison{'s' if left_out > 1 else ''}" if left_out > 0 else ""
    compared = "restorers" if FROZEN in {*between.variant, *between.versus} else "losses"
    return f"Of the {compared}, {'; '.join(texts[:MOST_PAIRS])}{more}."


def _wins(winner: str, loser: str, wins: int, defeats: int, total: int) -> str:
    """In how many cases one loss beats another."""
    beaten = f", is beaten in {defeats}" if defeats else ""
    rest = total - wins - defeats
    unsure = f", and {rest} cannot be told" if rest else ""
    return f"{winner} beats {loser} in {wins} of {total} case{'s' if total > 1 else ''}{beaten}{unsure}"


def caveats(verdicts: pd.DataFrame, objectives: Sequence[str]) -> list[str]:
    """What limits all verdicts, each limit once."""
    rows = main_rows(verdicts, objectives)
    trained = rows[rows.variant != FROZEN]
    texts = []
    if (trained.n_trainings == 1).any():
        any_verdict, uncompared = (trained.verdict != WITHHELD).any(), (trained.reason == ONE_TRAINING).any()
        between = " and cannot compare losses" if uncompared else ""
        limit = f"verdicts hold for these trainings{between}" if any_verdict else "losses cannot be compared"
        if any_verdict or uncompared:
            texts.append(f"Each restorer was trained once: {limit}. Set train_restorer.repeats to 5 or more.")
    reasons = rows[(rows.verdict == WITHHELD) & (rows.reason != ONE_TRAINING)].reason
    return [*texts, *(f"No verdict ({reason})." for reason in dict.fromkeys(reasons) if reason)]


def chosen_here(cells: Sequence[CellAnswer]) -> list[str]:
    """That the best of several losses was chosen on the images that it is reported on, if it was."""
    if not any(sum(row["verdict"] == HELPS for row in cell.gains.values()) > 1 for cell in cells):
        return []
    return ["The gain of the best loss is shown. It was chosen on these images, which flatters it a little."]


def _largest(rows: Iterable[Row]) -> Row:
    """The row with the largest gain; undefined gains come last."""
    return max(rows, key=lambda row: -math.inf if math.isnan(row["gain"]) else row["gain"])


def _decisive(comparisons: Sequence[Row]) -> Row | None:
    """The comparison of two losses that says most.

    It is the largest gain that is a verdict. Without one it is the largest gain of all, so that the loss ahead of all
    others is in it.
    """
    if not comparisons:
        return None
    decided = [row for row in comparisons if row["verdict"] == HELPS]
    return _largest(decided or comparisons)


def _gain(row: Row) -> str:
    digits = find_metric(row["metric"]).digits
    interval = "" if math.isnan(row["ci_low"]) else f" ({row['ci_low']:+.{digits}f} to {row['ci_high']:+.{digits}f})"
    return f"{row['gain']:+.{digits}f}{interval}"


def _recovered(row: Row) -> str:
    ends = row["recovered_low"], row["recovered_high"]
    interval = "" if any(map(math.isnan, ends)) else f" ({100 * ends[0]:.0f} to {100 * ends[1]:.0f} %)"
    return f"{100 * row['recovered']:.0f} %{interval}"


def _range_recovered(cells: Sequence[CellAnswer]) -> str:
    shares = sorted(cell.best["recovered"] for cell in cells if not math.isnan(cell.best["recovered"]))
    if not shares:
        return ""
    low, high = f"{100 * shares[0]:.0f} %", f"{100 * shares[-1]:.0f} %"
    return f" and recovers {low if low == high else f'{low} to {high}'} of the loss"


def _units(row: Row) -> str:
    groups = f" in {row['n_groups']:.0f} groups" if row["n_groups"] < row["n_images"] else ""
    return f"{row['n_images']:.0f} images{groups}"


def _named(cells: Sequence[CellAnswer], everything: Sequence[CellAnswer]) -> str:
    """The tasks and degradations of cells, grouped by task; counted if there are too many."""
    if len(cells) > MOST_NAMED:
        number = f"all {len(cells)}" if len(cells) == len(everything) else f"{len(cells)} of {len(everything)}"
        return f"in {number} pairs of task and degradation"
    degradations: dict[tuple[str, ...], list[str]] = {}
    for task in dict.fromkeys(cell.task for cell in cells):
        of_task = tuple(cell.degradation for cell in cells if cell.task == task)
        degradations.setdefault(of_task, []).append(task)
    return ", ".join(f"{_listed(tasks)} on {_listed(names)}" for names, tasks in degradations.items())


def _listed(names: Sequence[str]) -> str:
    """Names in a sentence: "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
