"""Stage publish: the tables and pictures of a finished run as MLflow runs, one for each row that people compare.

It reads files only, so that MLflow is complete also when DVC took every other stage from its cache, and it
finds its runs again by their configuration, so that publishing twice changes nothing.

    python -m pipeline.publish --sync

sends only the curves that could not be sent while something was trained. Publishing does so, too.
"""

import hashlib
import json
import os
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from data.dataset import Dataset
from pipeline.running.atomic_outputs import replacing
from pipeline.running.digests import git_commit
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.settings.params import ELSEWHERE, Params, load_params
from pipeline.tracking import outbox
from pipeline.tracking.comparison_rows import Folders, Ledger
from pipeline.tracking.runs import Published, Report, chart_link, compare_link, publish
from pipeline.tracking.store import IDENTITY, TrackingError, failures, reason, shown_uri

SYNC = "--sync"


def synchronise() -> list[str]:
    """Send the curves that wait in files; returns the names of their runs.

    Raises:
        TrackingError: MLflow cannot be reached or written to; what was not sent still waits.
    """
    try:
        return list(outbox.send_all())
    except failures() as error:
        raise TrackingError(f"MLflow at {shown_uri()}: {reason(error)}; the curves still wait in files") from error


def _publish(options: Namespace, scratch: Path) -> tuple[Published, dict[str, Any]]:
    """Write all of it; returns where it is, and what the stage's output says.

    MLflow draws ids by chance. The output has digests of parameters instead, which runs are found by: it is the same
    for every run of one commit.
    """
    params, clean = load_params(), Dataset.open(Path(options.clean))
    folders = Folders(Path(options.degraded), Path(options.report), Path(options.restorers), scratch)
    found = {"dvc.experiment": os.environ.get("DVC_EXP_NAME", ""), "git.commit": git_commit()}
    common = {name: value for name, value in found.items() if value}
    rows = list(Ledger(params, clean, folders).rows(common))
    report = _report(params, clean, folders.report, common)
    receipt = {
        "experiment": clean.info.name,
        IDENTITY: {"report": report.identity, "rows": {row.name: row.identity for row in rows}},
    }
    return publish(clean.info.name, rows, report), receipt


def _report(params: Params, clean: Dataset, folder: Path, tags: dict[str, str]) -> Report:
    content = params.model_dump(mode="json", exclude=ELSEWHERE)
    lists = {name: ", ".join(content[name]) for name in ("degradations", "objectives", "tasks")}
    return Report(
        identity=hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16],
        name=f"report of {clean.info.name}",
        tags={**tags, "dataset": clean.info.name},
        params={"dataset": clean.info.name, "seed": params.seed, **lists},
        folder=folder,
    )


def _sync() -> None:
    sent = synchronise()
    print(f"Sent to MLflow ({shown_uri()}): {', '.join(sent) or 'nothing was waiting'}.")
    for server, count in outbox.elsewhere().items():
        print(f"{count} wait for {server}: set MLFLOW_TRACKING_URI to it.")


def main() -> None:
    """Command line."""
    if sys.argv[1:] == [SYNC]:
        _sync()
        return
    options = parse_arguments("clean", "degraded", "report", "restorers", "out")
    started = time.perf_counter()
    synchronise()
    with replacing(Path(options.out)) as marker:
        published, receipt = _publish(options, marker.parent)
        marker.write_text(json.dumps(receipt, indent=1) + "\n")
    print(f"{len(published.runs)} rows are in MLflow ({shown_uri()}), in {time.perf_counter() - started:.0f} seconds.")
    print(f"To compare them: uv run mlflow ui, then open {chart_link(published.experiment)}")
    print(f"Parallel coordinates, scatter and all values in one table: {compare_link(published)}")


if __name__ == "__main__":
    run_stage(main)
