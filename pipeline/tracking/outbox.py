"""Curves that could not be sent to MLflow: kept in files, one for each run, and sent later. Not a stage.

A file has a line about the run, then a line for each point, then one with the run's status when it ended; the same
again from each process that went on with the training.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.running.atomic_outputs import WORK
from pipeline.running.entry import project_root
from pipeline.running.processes import is_alive, this_process
from pipeline.tracking.store import TRAINING, Point, Points, Store, shown_uri

FOLDER = Path("unsent")


@dataclass(frozen=True)
class Destination:
    """The run that curves belong to.

    Attributes:
        experiment: its name.
        name: of the run.
        tags: of the run.
        identity: what the run is found by.
        training: which training the curves are of.
    """

    experiment: str
    name: str
    tags: Mapping[str, str]
    identity: str
    training: str


@dataclass(frozen=True)
class Unsent:
    """What one file holds. `status` is empty where the process ended, or goes on, without a word."""

    path: Path
    run: Destination
    server: str
    process: str
    points: Points
    status: str


def keep(run: Destination, points: Points, status: str = "", begins: bool = False) -> None:
    """Add points to the local copy of a run, and its status where it has ended.

    Args:
        run: which one.
        points: what could not be sent.
        status: FINISHED, FAILED or KILLED, where it has ended.
        begins: this process keeps something of this run for the first time.
    """
    path = _path(run)
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"run": asdict(run), "server": shown_uri(), "process": this_process()}
    lines: list[dict[str, Any]] = [header] if begins or not path.exists() else []
    lines += [{"step": step, "when": point.when, "values": point.values} for step, point in sorted(points.items())]
    lines += [{"status": status}] if status else []
    with path.open("a") as file:
        # A line that a kill cut must not swallow the next one.
        file.writelines(["\n"] * begins + [json.dumps(line) + "\n" for line in lines])


def take_over(run: Destination) -> Points:
    """What is kept of a training that is about to go on; of another training of this run nothing."""
    kept = _read(_path(run)) if _path(run).exists() else None
    return kept.points if kept is not None and kept.run.training == run.training else {}


def forget(run: Destination) -> None:
    """Remove the local copy: everything in it has been sent."""
    _path(run).unlink(missing_ok=True)


def waiting() -> list[Unsent]:
    """The local copies of trainings that have ended, one way or another."""
    found = (_read(path) for path in sorted((project_root() / WORK / FOLDER).glob("*.jsonl")))
    return [kept for kept in found if kept is not None and (kept.status or not is_alive(kept.process))]


def send(unsent: Unsent) -> None:
    """Send a local copy and remove it. Steps that MLflow has already are not sent again."""
    store = Store(unsent.run.experiment)
    run = store.find(unsent.run.identity)
    newer = run is not None and TRAINING not in run.data.tags  # written from the result's files, which are complete
    if not newer:
        id, last = store.open_run(unsent.run.identity, unsent.run.name, unsent.run.tags, unsent.run.training)
        store.stream(id, {step: point for step, point in unsent.points.items() if step > last})
        store.client.set_terminated(id, unsent.status or "KILLED")
    unsent.path.unlink()


def send_all() -> Iterator[str]:
    """Send every local copy that was meant for this address; yields the names of the runs.

    Raises:
        Exception: of any kind, where MLflow cannot be written to; what has not been sent is still there.
    """
    for unsent in waiting():
        if unsent.server == shown_uri():
            send(unsent)
            yield unsent.run.name


def elsewhere() -> dict[str, int]:
    """How many local copies wait for other addresses than this one."""
    servers = [unsent.server for unsent in waiting() if unsent.server != shown_uri()]
    return {server: servers.count(server) for server in servers}


def _path(run: Destination) -> Path:
    name = hashlib.sha256(f"{run.experiment}\x1f{run.identity}".encode()).hexdigest()[:24]
    return project_root() / WORK / FOLDER / f"{name}.jsonl"


def _read(path: Path) -> Unsent | None:
    """A file's content; None where nothing in it can be read. What follows a line about the run is of that run."""
    found: Unsent | None = None
    for line in _lines(path):
        if "run" in line:
            run = Destination(**line["run"])
            points = found.points if found is not None and found.run.training == run.training else {}
            found = Unsent(path, run, line["server"], line["process"], points, "")
        elif found is not None and "step" in line:
            found.points[int(line["step"])] = Point(line["when"], line["values"])
        elif found is not None:
            found = replace(found, status=line["status"])
    return found


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """All lines but those that a kill cut."""
    for line in path.read_text().splitlines():
        with suppress(json.JSONDecodeError):
            yield json.loads(line)
