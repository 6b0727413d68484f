"""Command: when to restore. A gate is fitted for one task, degradation and restorer of a finished run.

    python -m pipeline.gate --task detection --degradation fog --objective diffloss

From the degraded image and the network's own output on it, it predicts whether restoring helps on this image. It is
fitted on the split val, never on the reported one; predictions that no stage made are made and kept. The folder gets
gate.json, gate.md, policies.csv, risk_coverage.csv, risk_coverage.svg and cases.csv.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.commands import gate_report
from pipeline.commands.finished_runs import Finished, add_choice
from pipeline.commands.gate_cases import COLUMNS, Cases, Part, decisions, features_of, is_worse, policy_rows
from pipeline.commands.gate_model import Floats, Gate, GateError, better_constant, fit
from pipeline.commands.gate_report import CURVES, draw, page, summary
from pipeline.reporting.tables import write_table
from pipeline.running.atomic_outputs import replacing_output
from pipeline.running.entry import run_command
from pipeline.running.seeds import seed_for
from pipeline.settings.params import ParamsError
from pipeline.statistics.scores import shared_weights

MARK = "gate.json"
VALIDATION, TRAIN = "val", "train"
SEEN = (
    "There is no validation split beside the reported one: the gate was fitted on training images, which the restorer "
    "and the task's network have seen. Gains are larger there than on new images, so that it restores too readily; "
    "draw a split val (docs/datasets.md) for one that can be trusted."
)
CHOSEN = "The restorer's weights were chosen on val, too (train_restorer.validation), which flatters them there."
CASES = ["split", "part", "id", "before", "after", "predicted_gain", "restored"]


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


@dataclass(frozen=True)
class Judged:
    """One split under a gate."""

    policies: list[dict[str, Any]]
    curves: list[dict[str, Any]]
    cases: pd.DataFrame


class Judge:
    """Fits a gate on one split, and judges it there and on the reported one.

    Args:
        run: the finished run.
        task: its name.
        with_clean: also clean images.
    """

    def __init__(self, run: Finished, task: str, with_clean: bool) -> None:
        self.run, self.source = run, Cases(run, task, with_clean)

    def fit(self, split: str) -> tuple[Gate, Judged]:
        """Fit, and fall back on a constant where the task's own metric says so."""
        parts = self.source.parts(split)
        cases, metric = self.source.table(parts)
        fitted = fit(cases, features_of(cases), seed_for(self.run.params.seed, "gate"))
        gate, judged = fitted.gate, self._judge(split, fitted.gate, fitted.predicted, cases, metric, parts)
        if not isinstance(gate.threshold, str) and is_worse(judged.policies):
            gate = replace(gate, threshold=better_constant((cases.after - cases.before).to_numpy()))
            judged = self._judge(split, gate, fitted.predicted, cases, metric, parts)
        return gate, judged

    def judge(self, split: str, gate: Gate) -> Judged:
        """Judge it on images that it was not fitted on."""
        parts = self.source.parts(split)
        cases, metric = self.source.table(parts)
        return self._judge(split, gate, gate.predict(cases), cases, metric, parts)

    def _judge(
        self, split: str, gate: Gate, predicted: Floats, cases: pd.DataFrame, metric: str, parts: Sequence[Part]
    ) -> Judged:
        params, restored = self.run.params, gate.restores(predicted)
        weights, level = shared_weights(params, cases.image.nunique()), params.statistics.level
        chosen = decisions(cases, restored)
        return Judged(
            policy_rows(split, cases, metric, chosen, parts, self.source, weights, level),
            gate_report.risk_coverage(split, cases, predicted, weights, level),
            cases.assign(split=split, predicted_gain=predicted, restored=restored.astype(np.int64))[CASES],
        )


def write(run: Finished, task: str, split: str, with_clean: bool, out: Path) -> str:
    """Fit a gate and write all about it into a folder; returns what to print.

    Raises:
        GateError: too few images to fit it on.
        FinishedError: the finished run lacks something.
    """
    run.check_params()
    judge, reported = Judge(run, task, with_clean), run.clean.evaluation_split
    gate, here = judge.fit(split)
    there = judge.judge(reported, gate)
    cautions = _cautions(run, split)
    with replacing_output(out, MARK) as folder:
        policies = write_table([*here.policies, *there.policies], COLUMNS, folder / "policies.csv")
        curves = write_table([*here.curves, *there.curves], gate_report.COLUMNS, folder / "risk_coverage.csv")
        write_table(pd.concat([here.cases, there.cases]).to_dict("records"), CASES, folder / "cases.csv")
        draw(curves, policies, folder / CURVES)
        (folder / "gate.md").write_text(page(run, task, gate, policies, (split, reported), cautions))
        about = {"degradation": run.degradation, "objective": run.objective, "training": run.training}
        gate.save(folder / MARK, {"task": task, **about, "fitted on": split, "with clean images": with_clean})
    return "\n".join([summary(policies), *cautions])


def _cautions(run: Finished, split: str) -> list[str]:
    if split == TRAIN:
        return [SEEN]
    return [CHOSEN] if run.params.train_restorer.validation.keep_best else []


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m pipeline.commands.gate", description=__doc__)
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
    print(f"{out / 'gate.md'} says more.")


if __name__ == "__main__":
    run_command(main)
