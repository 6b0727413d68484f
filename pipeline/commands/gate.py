"""Command: fit a gate, which predicts for each image whether restoring it helps a task.

    python -m pipeline.commands.gate --task detection --degradation fog --objective diffloss

The gate predicts from the degraded image and from the task network's output on it. It is fitted on the split val, never
on the reported split. Predictions that no stage has made are made now, and kept below work/. The output folder gets
gate.json, gate.md, policies.csv, risk_coverage.csv, risk_coverage.svg and cases.csv.
"""

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.commands.completed_runs import CompletedRun, add_restorer_options
from pipeline.commands.gate_model import GATE_FILE, Floats, Gate, GateError, better_constant, fit
from pipeline.commands.gate_report import CURVE_COLUMNS, FIGURE, draw_curves, gate_page, risk_coverage, summarise
from pipeline.commands.gate_scores import POLICY_COLUMNS, Cases, GatePredictions, is_worse, mean_score, policy_rows
from pipeline.metrics import main_metric
from pipeline.reporting.tables import write_table
from pipeline.running.atomic_outputs import replacing_output
from pipeline.running.entry import run_command
from pipeline.running.seeds import seed_for
from pipeline.settings.params import ParamsError
from pipeline.statistics.scores import shared_resamples

VALIDATION, TRAIN = "val", "train"
CASE_COLUMNS = ["split", "part", "id", "before", "after", "predicted_gain", "restored"]
FITTED_ON_TRAINING_IMAGES = (
    "There is no validation split beside the reported one. The gate was fitted on training images, which the restorer "
    "and the task network have seen. Gains are larger there than on new images, so the gate restores too often. Draw a "
    "split val (docs/how-to/datasets.md) for a gate that you can trust."
)
WEIGHTS_CHOSEN_ON_VAL = (
    "The restorer's weights were chosen on val, too (train_restorer.validation). Its gains there are too large."
)


@dataclass(frozen=True)
class SplitTables:
    """Rows of policies.csv, risk_coverage.csv and cases.csv for one split under a gate."""

    policies: list[dict[str, Any]]
    curves: list[dict[str, Any]]
    cases: pd.DataFrame


def split_to_fit(run: CompletedRun, requested: str | None) -> str:
    """The split to fit the gate on: val, or train if val is the reported split or missing.

    Raises:
        GateError: the requested split is the reported one, or does not exist.
    """
    reported = run.clean.evaluation_split
    choices = [name for name in run.clean.info.splits if name != reported]
    split = requested or (VALIDATION if VALIDATION in choices else TRAIN)
    if split == reported:
        raise GateError(f"--split: {split!r} is the reported split. Choose one of {', '.join(choices)}.")
    if split not in choices:
        raise GateError(f"--split: the dataset has no split {split!r}. Choose one of {', '.join(choices)}.")
    return split


def fit_gate(predictions: GatePredictions, split: str) -> tuple[Gate, SplitTables, str]:
    """Fit a gate on one split; returns it, its tables there, and the name of the mean image score.

    A gate that is behind never or always in the task's main metric becomes the better of these two.
    """
    cases = predictions.cases(split)
    fitted = fit(cases.table, cases.features, seed_for(predictions.run.params.seed, "gate"))
    gate, tables = fitted.gate, score_gate(predictions, cases, fitted.gate, fitted.predicted)
    if not isinstance(gate.threshold, str) and is_worse(tables.policies, main_metric(predictions.task)):
        gate = replace(gate, threshold=better_constant((cases.table.after - cases.table.before).to_numpy()))
        tables = score_gate(predictions, cases, gate, fitted.predicted)
    return gate, tables, mean_score(cases)


def score_gate(predictions: GatePredictions, cases: Cases, gate: Gate, predicted: Floats) -> SplitTables:
    """The tables of one split.

    Args:
        predictions: of the task network on these images.
        cases: of the split.
        gate: decides by the predicted gains.
        predicted: (N,) predicted gains of the cases.
    """
    params, restored = predictions.run.params, gate.restores(predicted)
    level = params.statistics.level
    image_ids = sorted(cases.table.image.unique())
    resamples = shared_resamples(params, image_ids, predictions.groups(cases.split))
    decided = cases.table.assign(split=cases.split, predicted_gain=predicted, restored=restored.astype(np.int64))
    return SplitTables(
        policy_rows(cases, restored, predictions, resamples, level),
        risk_coverage(cases.split, cases.table, predicted, resamples, level),
        decided[CASE_COLUMNS],
    )


def write_gate(run: CompletedRun, task: str, split: str, with_clean: bool, out: Path) -> str:
    """Fit a gate, and write it with its tables into the folder `out`; returns a summary.

    Args:
        run: the completed run.
        task: name of the task.
        split: the split to fit the gate on.
        with_clean: whether to fit and score on clean images, too.
        out: output folder.

    Raises:
        GateError: there are too few images to fit the gate on.
        CompletedRunError: a result is missing.
    """
    run.check_params()
    predictions, reported = GatePredictions(run, task, with_clean), run.clean.evaluation_split
    gate, fitted, metric = fit_gate(predictions, split)
    reported_cases = predictions.cases(reported)
    scored = score_gate(predictions, reported_cases, gate, gate.predict(reported_cases.table))
    cautions = _cautions(run, split)
    with replacing_output(out, GATE_FILE) as folder:
        policies = write_table([*fitted.policies, *scored.policies], POLICY_COLUMNS, folder / "policies.csv")
        curves = write_table([*fitted.curves, *scored.curves], CURVE_COLUMNS, folder / "risk_coverage.csv")
        cases = pd.concat([fitted.cases, scored.cases]).to_dict("records")
        write_table(cases, CASE_COLUMNS, folder / "cases.csv")
        draw_curves(curves, policies, metric, folder / FIGURE)
        (folder / "gate.md").write_text(gate_page(run, task, gate, policies, (split, reported), cautions))
        about = {"degradation": run.degradation, "objective": run.objective, "training": run.training}
        gate.save(folder / GATE_FILE, {"task": task, **about, "fitted on": split, "with clean images": with_clean})
    return "\n".join([summarise(policies, metric), *cautions])


def _cautions(run: CompletedRun, split: str) -> list[str]:
    if split == TRAIN:
        return [FITTED_ON_TRAINING_IMAGES]
    return [WEIGHTS_CHOSEN_ON_VAL] if run.params.train_restorer.validation.keep_best else []


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m pipeline.commands.gate", description=__doc__)
    parser.add_argument("--task", required=True, help="one of those in params.yaml")
    add_restorer_options(parser)
    parser.add_argument("--split", help="the split to fit on (val; train if val is the reported split)")
    parser.add_argument("--with-clean", action="store_true", help="also use the clean images, which need no restoring")
    parser.add_argument("--out", type=Path, help="output folder (deployed/gate-<task>-<degradation>-<objective>)")
    return parser.parse_args()


def main() -> None:
    """Command line."""
    options = _options()
    run = CompletedRun.from_options(options)
    if options.task not in run.params.tasks:
        tasks = ", ".join(run.params.tasks)
        raise ParamsError(f"--task: {options.task!r} is not in params.yaml. Choose one of {tasks}.")
    split = split_to_fit(run, options.split)
    out = options.out or Path("deployed") / f"gate-{options.task}-{run.degradation}-{run.objective}"
    print(write_gate(run, options.task, split, options.with_clean, out))
    print(f"The report is {out / 'gate.md'}.")


if __name__ == "__main__":
    run_command(main)
