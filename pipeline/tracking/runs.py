"""MLflow runs of a finished pipeline: the rows of the comparison, the report, and the curves of other trainings.

Rows are flat, because MLflow's chart view shows no nested runs. The report is a run of another experiment,
`<name>-report`. Rows and report link to each other in tags and descriptions.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pipeline.tracking import view
from pipeline.tracking.logged_model import RestorerFile, log_restorer
from pipeline.tracking.store import (
    TRAININGS,
    Deleted,
    Store,
    TrackingError,
    failures,
    reason,
    sanitised,
    shown_uri,
    to_metrics,
    tracking_uri,
)

if TYPE_CHECKING:
    from mlflow.entities import Run

REPORTS = "-report"  # suffix of the experiment that holds the reports
NOTE = "mlflow.note.content"  # the tag that the UI shows as a description
CONTEXT = "mlflow.data.context"  # the tag of a dataset with its use
LONGEST_NOTE = 5000  # characters that every backend takes
LOCAL_SERVER = "http://127.0.0.1:5000"  # where `mlflow ui` listens


@dataclass(frozen=True)
class DataUsed:
    """A split of a dataset that a row used.

    Attributes:
        name: of dataset and split.
        digest: of its files.
        folder: its path in the project.
        images: number of images.
        use: `training` or `evaluation`.
    """

    name: str
    digest: str
    folder: str
    images: int
    use: str


@dataclass(frozen=True)
class Row:
    """The content of one run: a variant for one degradation."""

    configuration: str
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    artifacts: tuple[Path, ...] = ()
    curve: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    data: tuple[DataUsed, ...] = ()
    restorer: RestorerFile | None = None


@dataclass(frozen=True)
class Report:
    """The content of the run that has the report: all files of a folder."""

    configuration: str
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, Any]
    folder: Path


@dataclass(frozen=True)
class Training:
    """The curve of a training that is no row of the comparison: of the prior or of a task network."""

    configuration: str
    name: str
    tags: Mapping[str, str]
    curve: Mapping[int, Mapping[str, float]]


@dataclass(frozen=True)
class Published:
    """The ids of the experiment, of the runs by row name, and of the report's run."""

    experiment: str
    runs: Mapping[str, str]
    report: str


def publish(
    experiment: str,
    rows: Sequence[Row],
    report: Report,
    trainings: Sequence[Training] = (),
    deleted: Deleted = "restore",
) -> Published:
    """Write rows, their report and the curves of other trainings, and close runs whose processes died.

    Publishing twice changes nothing: only what a run does not have yet is sent. `deleted` says what happens to
    experiments that someone deleted; see `Store`.

    Raises:
        TrackingError: MLflow cannot be reached or written to.
    """
    try:
        store = Store(experiment, deleted)  # the comparison comes first in the list of experiments
        store.close_dead_runs()
        training_store = Store(experiment + TRAININGS, deleted)
        training_store.close_dead_runs()
        for training in trainings:
            publish_training(training_store, training)
        reports = Store(experiment + REPORTS, deleted)
        known = reports.find(report.configuration) or reports.create(report.configuration, report.name, report.tags)
        link = f"[report](#/experiments/{reports.experiment_id}/runs/{known.info.run_id}/artifacts)"
        runs = {}
        for number, row in enumerate(rows):
            colour = view.PALETTE[number % len(view.PALETTE)]
            runs[row.name] = publish_row(store, row)
            store.client.set_tag(runs[row.name], view.COLOUR, colour)
            store.client.set_tag(runs[row.name], view.ORDER, f"{number:03}")
            store.client.set_tag(runs[row.name], "report", known.info.run_id)
            store.client.set_tag(runs[row.name], NOTE, f"One row of this {link}.")
        _publish_report(reports, known, report, store.experiment_id, runs)
        names = [sanitised(name) for row in rows for name in row.metrics]
        created = store.client.get_experiment(store.experiment_id).creation_time or 0
        store.client.set_experiment_tag(store.experiment_id, view.TAG, view.view(names, created))
        store.client.set_experiment_tag(store.experiment_id, NOTE, _how_to_read(store.experiment_id, link))
        return Published(store.experiment_id, runs, known.info.run_id)
    except failures() as error:
        raise TrackingError(
            f"MLflow at {shown_uri()}: {reason(error)}. Then run `uv run dvc repro publish`: the results are in files."
        ) from error


def publish_row(store: Store, row: Row) -> str:
    """Write a row into the run that has its configuration, or into a new run. Returns the run's id.

    A run with the curve of another training, or with other data, is replaced: code or data have changed.
    """
    run = store.find(row.configuration)
    if run is not None and not (store.continues(run.info.run_id, row.curve) and _same_data(run, row.data)):
        store.client.delete_run(run.info.run_id)
        run = None
    run = run or store.create(row.configuration, row.name, row.tags)
    run_id = str(run.info.run_id)
    _log_tags(store, run, {**row.tags, "mlflow.runName": row.name})
    _log_values(store, run, row.params, row.metrics)
    store.complete(run_id, row.curve)
    _log_data(store, run_id, row.data)
    for path in row.artifacts:
        store.client.log_artifact(run_id, str(path))
    if row.restorer is not None:
        log_restorer(store.client, store.client.get_run(run_id), row.restorer)
    _finish(store, run)
    return run_id


def publish_training(store: Store, training: Training) -> None:
    """Complete the curve of the run that has a training's configuration. Another training's run is replaced."""
    run = store.find(training.configuration)
    if run is not None and not store.continues(run.info.run_id, training.curve):
        store.client.delete_run(run.info.run_id)
        run = None
    run = run or store.create(training.configuration, training.name, training.tags)
    store.complete(run.info.run_id, training.curve)
    _finish(store, run)


def _publish_report(reports: Store, run: "Run", report: Report, comparison: str, rows: Mapping[str, str]) -> None:
    run_id = run.info.run_id
    links = "\n".join(f"- [{name}](#/experiments/{comparison}/runs/{row})" for name, row in rows.items())
    every = f"[all rows side by side](#/{_compare(comparison, list(rows.values()))})"
    texts = " and ".join(f"`{path.name}`" for path in sorted(report.folder.glob("report.*")))
    note = f"{texts}, tables and pictures are under Artifacts. Its rows ({every}):\n\n{links}"
    _log_tags(reports, run, {**report.tags, NOTE: note[:LONGEST_NOTE], "mlflow.runName": report.name})
    _log_values(reports, run, report.params, {})
    reports.client.log_artifacts(run_id, str(report.folder))
    _finish(reports, run)


def _finish(store: Store, run: "Run") -> None:
    """Close a run that is not finished yet."""
    if run.info.status != "FINISHED":
        store.client.set_terminated(run.info.run_id, "FINISHED")


def _how_to_read(experiment: str, link: str) -> str:
    return (
        f"Does restoring help? [Charts](#/{_charts(experiment)}) and {link}. One run for each row that people compare. "
        "Metrics of every restored row have the same names: `<task>/<metric>`, `gain_over_degraded/...` with the ends "
        "of its interval, `recovered/...` (0: as degraded, 1: as clean), also with an interval, `quality/...`, "
        "`cost/...` (of the restorer). Filter by tags and metrics: `tags.degradation = 'fog'`, "
        "`tags.objective = 'pixel'`, `metrics.\"gain_over_degraded/detection_mAP50-95\" > 0`."
    )


def _same_data(run: "Run", data: Sequence[DataUsed]) -> bool:
    """Whether the datasets that a run used have the same digests as those of the same names here."""
    now = {used.name: used.digest for used in data}
    then = {entry.dataset.name: entry.dataset.digest for entry in (run.inputs.dataset_inputs if run.inputs else [])}
    return all(now.get(name, digest) == digest for name, digest in then.items())


def _log_tags(store: Store, run: "Run", tags: Mapping[str, str]) -> None:
    for name, value in tags.items():
        if run.data.tags.get(name) != value:
            store.client.set_tag(run.info.run_id, name, value)


def _log_values(store: Store, run: "Run", params: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    """Log what the run does not have yet. A value that is logged twice would be a second point."""
    from mlflow.entities import Param

    new: list[Param] = [Param(sanitised(k), str(v)) for k, v in params.items() if sanitised(k) not in run.data.params]
    known = run.data.metrics
    changed = {name: value for name, value in metrics.items() if known.get(sanitised(name)) != value}
    store.client.log_batch(run.info.run_id, metrics=to_metrics(changed), params=new)


def _log_data(store: Store, run_id: str, data: Sequence[DataUsed]) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = [
        DatasetInput(
            Dataset(
                name=used.name,
                digest=used.digest,
                source_type="local",
                source=json.dumps({"uri": used.folder}),
                profile=json.dumps({"images": used.images}),
            ),
            [InputTag(CONTEXT, used.use)],
        )
        for used in data
    ]
    if inputs:
        store.client.log_inputs(run_id, inputs)


def how_to_open(experiment: str) -> str:
    """How to open the charts of the comparison: a command if no server runs yet, and the address.

    MLflow's own first page is about something else and shows no runs.
    """
    if tracking_uri().startswith("http"):
        return f"{shown_uri().rstrip('/')}/#/{_charts(experiment)}"
    return f"uv run mlflow ui, then {LOCAL_SERVER}/#/{_charts(experiment)}"


def _charts(experiment: str) -> str:
    shown = f"workflowType=machine_learning&compareRunsMode=CHART&viewStateShareKey={view.KEY}"
    return f"experiments/{experiment}/runs?{shown}"


def _compare(experiment: str, runs: Sequence[str]) -> str:
    return f"compare-runs?runs={quote(json.dumps(list(runs)))}&experiments={quote(json.dumps([experiment]))}"
