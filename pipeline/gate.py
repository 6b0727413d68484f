"""Command: when to restore. A gate is fitted for one task, degradation and restorer of a finished run.

    python -m pipeline.gate --task detection --degradation fog --objective diffloss

From the degraded image and the network's own output on it, it predicts whether restoring helps on this image. It is
fitted on the split val, never on the reported one; predictions that no stage made are made and kept. The folder gets
gate.json, gate.md, policies.csv, risk_coverage.csv, risk_coverage.svg and cases.csv.
"""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline import runtime
from pipeline.deployment.command import replacing_output, run_command
from pipeline.deployment.finished import Finished, add_choice
from pipeline.deployment.gate import curve
from pipeline.deployment.gate.cases import OWN_COLUMNS, Cases, features_of
from pipeline.deployment.gate.features import GateError
from pipeline.deployment.gate.model import Fitted, fit
from pipeline.deployment.gate.page import CURVES, draw, page, summary
from pipeline.deployment.gate.policies import COLUMNS, decisions, policy_rows
from pipeline.params import ParamsError
from pipeline.scores import shared_weights
from pipeline.tables import write_table

MARK = "gate.json"
VALIDATION, TRAIN = "val", "train"
SEEN = (
    "There is no validation split beside the reported one: the gate was fitted on training images, which the restorer "
    "and the task's network have seen. Gains are larger there than on new images, so that it restores too readily; "
    "draw a split val (docs/datasets.md) for one that can be trusted."
)
CHOSEN = (
    "The restorer's weights were chosen on val too (train_restorer.validation.keep_best): gains there are flattered."
)


def split_to_fit(run: Finished, asked: str | None) -> str:
    """The split that the gate is fitted on: val, or train where val is what is reported.

    Raises:
        GateError: the reported split was asked for, or one that there is not.
    """
    reported, splits = run.clean.evaluation_split, run.clean.info.splits
    others = [name for name in splits if name != reported]
    split = asked or (VALIDATION if VALIDATION in others else TRAIN)
    if split == reported:
        raise GateError(f"--split {split}: results are reported on it; fit on another one: {', '.join(others)}")
    if split not in splits:
        raise GateError(f"--split {split}: the data set has {', '.join(others)}")
    return split


def write(run: Finished, task: str, split: str, with_clean: bool, out: Path) -> str:
    """Fit a gate and write all about it into a folder; returns what to print.

    Raises:
        GateError: too few images to fit it on.
        FinishedError: the finished run lacks something.
    """
    run.check_params()
    params, source = run.params, Cases(run, task, with_clean)
    reported = run.clean.evaluation_split
    fitted: Fitted | None = None
    tables: dict[str, list[Any]] = {"policies": [], "curves": [], "cases": []}
    for name in (split, reported):
        parts = source.parts(name)
        cases, metric = source.table(parts)
        if fitted is None:
            fitted = fit(cases, features_of(cases), runtime.seed_for(params.seed, "gate"))
            predicted = fitted.predicted
        else:
            predicted = fitted.gate.predict(cases)
        restored = fitted.gate.restores(predicted)
        weights, level = shared_weights(params, cases.image.nunique()), params.statistics.level
        chosen = decisions(cases, restored)
        tables["policies"] += policy_rows(name, cases, metric, chosen, parts, source, weights, level)
        tables["curves"] += curve.risk_coverage(name, cases, predicted, weights, level)
        table = cases[OWN_COLUMNS].assign(split=name, predicted_gain=predicted, restored=restored.astype(np.int64))
        tables["cases"].append(table)
    assert fitted is not None
    return _write_files(run, task, fitted, tables, (split, reported), with_clean, out)


def _write_files(
    run: Finished,
    task: str,
    fitted: Fitted,
    tables: dict[str, list[Any]],
    splits: tuple[str, str],
    with_clean: bool,
    out: Path,
) -> str:
    cautions = [SEEN] if splits[0] == TRAIN else []
    if splits[0] == VALIDATION and run.params.train_restorer.validation.keep_best:
        cautions.append(CHOSEN)
    about = {
        "task": task,
        "degradation": run.degradation,
        "objective": run.objective,
        "training": run.training,
        "fitted on": splits[0],
        "with clean images": with_clean,
    }
    with replacing_output(out, MARK) as folder:
        policies = write_table(tables["policies"], COLUMNS, folder / "policies.csv")
        curves = write_table(tables["curves"], curve.COLUMNS, folder / "risk_coverage.csv")
        columns = ["split", "part", "id", "before", "after", "predicted_gain", "restored"]
        cases = pd.concat(tables["cases"])[columns]
        cases.to_csv(folder / "cases.csv", index=False, float_format="%.6g", lineterminator="\n")
        draw(curves, policies, folder / CURVES)
        (folder / "gate.md").write_text(page(run, task, fitted.gate, policies, splits, cautions))
        fitted.gate.save(folder / MARK, about)
    return "\n".join([summary(policies), *cautions])


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m pipeline.gate", description=__doc__)
    parser.add_argument("--task", required=True, help="one of params.yaml's")
    add_choice(parser)
    parser.add_argument("--split", help="to fit it on (val; train where val is what is reported)")
    parser.add_argument("--with-clean", action="store_true", help="as many clean images: learn to leave those alone")
    parser.add_argument("--out", type=Path, help="folder (deployed/gate-<task>-<degradation>-<objective>)")
    return parser.parse_args()


def main() -> None:
    """Command line."""
    options = _options()
    run = Finished.chosen(options)
    if options.task not in run.params.tasks:
        raise ParamsError(f"--task {options.task!r}: params.yaml has {', '.join(run.params.tasks)}")
    split = split_to_fit(run, options.split)
    out = options.out or Path("deployed") / f"gate-{options.task}-{run.degradation}-{run.objective}"
    print(write(run, options.task, split, options.with_clean, out))
    print(f"{out / 'gate.md'} says more.", file=sys.stdout)


if __name__ == "__main__":
    run_command(main)
