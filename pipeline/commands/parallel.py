"""Command: `dvc repro` with several stages at once.

    python -m pipeline.commands.parallel -j 4

DVC's graph says which stages exist and what each one waits for. DVC runs each ready stage in a worker process.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout
from tqdm import tqdm

from pipeline.commands.parallel_workers import GRACE, Worker, end_all, environments, start_dvc, wait_or_kill
from pipeline.running.atomic_outputs import WORK
from pipeline.running.entry import run_stage

if TYPE_CHECKING:
    from dvc.repo import Repo

POLL = 0.1  # seconds
LOCK = WORK / "parallel.lock"
DEFAULT_WORKERS = 2  # without a GPU

Upstream = Mapping[str, frozenset[str]]  # stage: the stages whose outputs it reads, in topological order


class ParallelError(RuntimeError):
    """The stages cannot run, or a stage failed. The text says why, and what to do."""


def read_stages() -> tuple[Upstream, frozenset[str]]:
    """All stages of dvc.yaml, matrices expanded, with their upstream stages; and the stages that DVC finds changed.

    Raises:
        ParallelError: this is no DVC project, dvc.yaml or params.yaml is wrong, or another DVC process runs stages.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        with Repo(_wait_for_lock=True) as repo:
            return _upstream(repo), frozenset(repo.status())
    except LockError as error:
        raise ParallelError(f"another DVC process runs here: {_one_line(error)}. Wait for it, or end it.") from error
    except DvcException as error:
        raise ParallelError(f"dvc.yaml: {_one_line(error)}. Correct the file.") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _upstream(repo: "Repo") -> Upstream:
    from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

    graph = get_active_graph(repo.index.graph)
    order = plan_repro(graph, collect_stages(repo, ["dvc.yaml"]))
    return {stage.addressing: frozenset(parent.addressing for parent in graph.successors(stage)) for stage in order}


def opening_stage(upstream: Upstream) -> str | None:
    """The stage that all other stages depend on, such as `code`; None if there is none."""
    roots = [stage for stage, direct in upstream.items() if not direct]
    return roots[0] if len(roots) == 1 else None


def closing_stages(upstream: Upstream) -> list[str]:
    """The last stages, each of which depends on all stages before it, so that nothing can run beside it."""
    ancestors: dict[str, frozenset[str]] = {}
    for stage, direct in upstream.items():
        ancestors[stage] = direct.union(*(ancestors[parent] for parent in direct))
    order = list(upstream)
    closing: list[str] = []
    while order and len(ancestors[order[-1]]) == len(order) - 1:
        closing.insert(0, order.pop())
    return closing


class Schedule:
    """The order of the stages: which one may start next.

    An unchanged stage is skipped if none of its upstream stages has run, because a call of DVC takes seconds. DVC gets
    all other stages, and skips those that are up to date.

    Args:
        upstream: the stages that each stage waits for, in topological order.
        changed: the stages that DVC finds changed before anything runs.
        closing: stages to leave out.
    """

    def __init__(self, upstream: Upstream, changed: Iterable[str], closing: Iterable[str] = ()) -> None:
        self._upstream = {stage: upstream[stage] for stage in upstream if stage not in set(closing)}
        self._changed = frozenset(changed)
        self._waiting = list(self._upstream)
        self._done: set[str] = set()
        self._run: set[str] = set()

    @property
    def total(self) -> int:
        """Number of stages."""
        return len(self._upstream)

    @property
    def done(self) -> int:
        """Number of stages that are done or up to date."""
        return len(self._done)

    def next(self) -> str | None:
        """A stage to start now; None if all remaining stages wait for others."""
        for stage in list(self._waiting):
            if self._upstream[stage] <= self._done:
                self._waiting.remove(stage)
                if stage in self._changed or self._upstream[stage] & self._run:
                    return stage
                self._done.add(stage)
        return None

    def finish(self, stage: str) -> None:
        """Record that a started stage has succeeded."""
        self._done.add(stage)
        self._run.add(stage)


def run_stages(schedule: Schedule, workers: Sequence[Worker]) -> None:
    """Run all stages of a schedule. After a failure no further stage starts, and running stages finish.

    Raises:
        ParallelError: a stage has failed.
    """
    failed: list[Worker] = []
    with tqdm(total=schedule.total, desc="stages", unit="stage", dynamic_ncols=True, disable=None) as bar:
        try:
            while (not failed and _start_ready(schedule, workers)) or any(worker.stage for worker in workers):
                failed += _collect_ended(schedule, workers)
                bar.n = schedule.done
                bar.set_postfix_str(", ".join(worker.stage for worker in workers if worker.stage))
                time.sleep(POLL)
        finally:
            end_all(workers)
    if failed:
        raise ParallelError(_failure(failed))


def _start_ready(schedule: Schedule, workers: Sequence[Worker]) -> bool:
    """Start ready stages in free workers; returns whether any was started."""
    started = False
    for worker in workers:
        if worker.stage is None and (stage := schedule.next()):
            worker.start(stage)
            started = True
    return started


def _collect_ended(schedule: Schedule, workers: Sequence[Worker]) -> list[Worker]:
    """Free the workers whose stages have ended; returns a worker for each stage that failed."""
    failed = []
    for worker in workers:
        if worker.stage is None or (code := worker.poll()) is None:
            continue
        seconds = f"{time.monotonic() - worker.started:.0f} s"
        if code:
            tqdm.write(f"{worker.stage} failed after {seconds}:\n{worker.tail()}", file=sys.stderr)
            failed.append(Worker(worker.environment, worker.stage))
        else:
            schedule.finish(worker.stage)
            tqdm.write(f"[{schedule.done}/{schedule.total}] {worker.stage}: {seconds}", file=sys.stderr)
        worker.stage = None
    return failed


def _failure(failed: Sequence[Worker]) -> str:
    stages = ", ".join(str(worker.stage) for worker in failed)
    logs = ", ".join(str(worker.log) for worker in failed)
    return f"{stages} failed: see {logs}. Finished stages are kept. Run the same command again to continue."


def _run_closing_stages() -> None:
    """Run a plain `dvc repro`, with its output on the terminal."""
    process = start_dvc(["--wait-for-lock", "repro"])
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        wait_or_kill(process, time.monotonic() + GRACE)
        raise
    if code:
        raise ParallelError("the closing `dvc repro` failed. Its error is printed above.")


def _gpus() -> list[str]:
    """The names of the GPUs that this process may use."""
    import torch

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[:count] if visible else [str(number) for number in range(count)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.commands.parallel", description="dvc repro with several stages at once"
    )
    default = f"one for each GPU; {DEFAULT_WORKERS} without GPUs"
    parser.add_argument("-j", "--jobs", type=int, metavar="N", help=f"how many stages at once ({default})")
    return parser.parse_args()


def main() -> None:
    """Command line."""
    options = _options()
    if options.jobs is not None and options.jobs < 1:
        raise ParallelError(f"--jobs: expected at least 1, got {options.jobs}. Choose a larger number.")
    LOCK.parent.mkdir(exist_ok=True)
    try:
        with FileLock(LOCK, timeout=0):
            _run(options.jobs)
    except Timeout as error:
        raise ParallelError(
            "another `pipeline.commands.parallel` runs in this folder. Wait for it, or end it."
        ) from error


def _run(jobs: int | None) -> None:
    from joblib import cpu_count

    upstream, changed = read_stages()
    gpus = _gpus()
    jobs = jobs or len(gpus) or DEFAULT_WORKERS
    workers = [Worker(environment) for environment in environments(jobs, cpu_count(), gpus, os.environ)]
    first = opening_stage(upstream)
    if first is not None and first in changed:  # only then can DVC tell which other stages have changed
        run_stages(Schedule({first: frozenset()}, [first]), workers)
        upstream, changed = read_stages()
    run_stages(Schedule(upstream, changed, closing_stages(upstream)), workers)
    _run_closing_stages()


if __name__ == "__main__":
    run_stage(main)
