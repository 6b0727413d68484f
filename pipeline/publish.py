"""Stage publish: a finished pipeline as MLflow runs, one for each row of the comparison.

It reads files only, so MLflow is complete even if DVC took all other stages from its cache. It finds runs by their
configuration, so publishing twice changes nothing. It completes the curves that trainings could not send.
"""

import hashlib
import json
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from data.dataset import Dataset
from pipeline.reporting.terminal import terminal_answer, terminal_links
from pipeline.running.atomic_outputs import read_table, replacing
from pipeline.running.digests import git_commit
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.settings.params import ELSEWHERE, Params, load_params
from pipeline.tracking.comparison_rows import ComparisonTables, Folders, trainings
from pipeline.tracking.runs import Published, Report, how_to_open, publish
from pipeline.tracking.store import CONFIGURATION


def _publish(params: Params, clean: Dataset, options: Namespace, scratch: Path) -> tuple[Published, dict[str, Any]]:
    """Write everything to MLflow. Returns the ids of the runs, and the content of the stage's output.

    MLflow draws run ids at random. The output has the configurations of the runs instead, so that it is the same for
    every run of one commit.
    """
    folders = Folders(
        degraded=Path(options.degraded),
        report=Path(options.report),
        objectives=Path(options.objectives),
        restorers=Path(options.restorers),
        prior=Path(options.prior),
        tasks=Path(options.tasks),
        scratch=scratch,
    )
    tags = {"dvc.experiment": os.environ.get("DVC_EXP_NAME", ""), "git.commit": git_commit()}
    tags = {name: value for name, value in tags.items() if value}
    rows = list(ComparisonTables(params, clean, folders).rows(tags))
    report = _report(params, clean, folders.report, tags)
    receipt = {
        "experiment": clean.info.name,
        CONFIGURATION: {"report": report.configuration, "rows": {row.name: row.configuration for row in rows}},
    }
    curves, deleted = list(trainings(params, folders)), params.tracking.deleted
    return publish(clean.info.name, rows, report, curves, deleted), receipt


def _report(params: Params, clean: Dataset, folder: Path, tags: dict[str, str]) -> Report:
    content = params.model_dump(mode="json", exclude=ELSEWHERE)
    lists = {name: ", ".join(content[name]) for name in ("degradations", "objectives", "tasks")}
    return Report(
        configuration=hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16],
        name=f"report of {clean.info.name}",
        tags={**tags, "dataset": clean.info.name},
        params={"dataset": clean.info.name, "seed": params.seed, **lists},
        folder=folder,
    )


def main() -> None:
    """Command line."""
    options = parse_arguments("clean", "degraded", "report", "objectives", "restorers", "prior", "tasks", "out")
    params, report = load_params(), Path(options.report)
    clean, verdicts = Dataset.open(Path(options.clean)), read_table(report / "verdicts.csv")
    print(f"\n{terminal_answer(params, clean.info.name, verdicts)}", flush=True)  # also if MLflow is out of reach
    with replacing(Path(options.out)) as marker:
        published, receipt = _publish(params, clean, options, marker.parent)
        marker.write_text(json.dumps(receipt, indent=1) + "\n")
    print(terminal_links(params, report, verdicts, how_to_open(published.experiment)))


if __name__ == "__main__":
    run_stage(main)
