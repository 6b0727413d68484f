"""What a run prints at its end: the answer in sentences, and where to look next. At most 15 lines."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pipeline.reporting.answers import CellAnswer, caveats, cell_answers, overall_answer, which_loss
from pipeline.running.entry import project_root
from pipeline.settings.grammar import FROZEN, is_retrained
from pipeline.settings.params import Params
from pipeline.statistics.comparison import FEWEST_FOR_VERDICTS
from pipeline.statistics.verdicts import UNKNOWN, WITHHELD

MOST_LINES = 15
LINKS = 4  # lines: an empty one, the report, MLflow and what to try next
WIDTH = 110  # characters


def terminal_answer(params: Params, name: str, verdicts: pd.DataFrame, width: int = WIDTH) -> str:
    """The answer for each task and degradation in a sentence, or for each task if that would be too long.

    With the links it has at most 15 lines.

    Args:
        params: objectives and settings.
        name: of the dataset.
        verdicts: verdicts.csv.
        width: of the lines.
    """
    cells = cell_answers(verdicts, params.objectives)
    title = f"Does restoring help on {name}? Intervals: {100 * params.statistics.level:g} %."
    notes = caveats(verdicts, params.objectives)
    attempts = [
        [*(cell.sentence for cell in cells), *notes],
        [*_tasks(cells), which_loss(verdicts, params.objectives), *notes],
        [overall_answer(cells), which_loss(verdicts, params.objectives)],
    ]
    for sentences in attempts:
        lines = [title, *(line for sentence in sentences if sentence for line in _wrapped(sentence, width))]
        if len(lines) <= MOST_LINES - LINKS:
            break
    return "\n".join(lines[: MOST_LINES - LINKS])


def terminal_links(params: Params, report: Path, verdicts: pd.DataFrame, charts: str) -> str:
    """Where to look next: the report, MLflow, and one thing to try.

    Args:
        params: settings of the run.
        report: its folder.
        verdicts: verdicts.csv.
        charts: how to open the charts in MLflow.
    """
    return "\n".join(["", f"Report: {report / 'report.html'}", f"MLflow: {charts}", _next(params, verdicts)])


def _next(params: Params, verdicts: pd.DataFrame) -> str:
    """What would make the answer more certain, or the run on other data."""
    repeats, cells = params.train_restorer.repeats, cell_answers(verdicts, params.objectives)
    withheld = bool(cells) and all(cell.verdict == WITHHELD for cell in cells)
    if withheld and not 1 < repeats < FEWEST_FOR_VERDICTS:  # more trainings would not lead to a verdict
        return 'Next: remove what prevents a verdict. It is in the column "reason" of verdicts.csv'
    of_key = {"train_restorer.repeats": repeats} if params.objectives != [FROZEN] else {}
    of_key |= {"retraining.repeats": params.retraining.repeats} if any(map(is_retrained, params.arms)) else {}
    keys = [key for key, trainings in of_key.items() if trainings < FEWEST_FOR_VERDICTS]
    if keys:
        change = f"{' and '.join(keys)}: {FEWEST_FOR_VERDICTS} in params.yaml"
        if (project_root() / ".git").exists():  # DVC's experiments need git
            change = f"uv run dvc exp run {' '.join(f'-S {key}={FEWEST_FOR_VERDICTS}' for key in keys)}"
        return f"Next: {change}, for verdicts that hold for other seeds"
    if any(cell.verdict == UNKNOWN for cell in cells):
        return 'Next: more test images. The report says how many, under "What it takes to show a gain"'
    return "Next: your own data, docs/how-to/datasets.md"


def _tasks(cells: Sequence[CellAnswer]) -> list[str]:
    """One sentence for each task."""
    by_task: dict[str, list[CellAnswer]] = {}
    for cell in cells:
        by_task.setdefault(cell.task, []).append(cell)
    return [overall_answer(of_task) for of_task in by_task.values()]


def _wrapped(sentence: str, width: int) -> list[str]:
    return textwrap.wrap(
        sentence, width, initial_indent="- ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
