"""Which stages there are, what they wait for, and which are ready: DVC's own graph. Not a stage."""

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

Upstream = Mapping[str, frozenset[str]]  # stage -> the stages whose outputs it reads itself, in an order that works


class ParallelError(RuntimeError):
    """The stages cannot be run, or one of them failed; the text says why and what to do."""


def read_stages() -> tuple[Upstream, frozenset[str]]:
    """All stages of dvc.yaml, matrices unfolded, with what they wait for; and those that DVC finds changed.

    Raises:
        ParallelError: this is no DVC project, dvc.yaml or params.yaml are wrong, or another DVC runs stages.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        with Repo(_wait_for_lock=True) as repo:
            return _upstream(repo), frozenset(repo.status())
    except LockError as error:
        raise ParallelError(f"another DVC process is at work here, wait or end it: {_one_line(error)}") from error
    except DvcException as error:
        raise ParallelError(f"dvc.yaml: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _upstream(repo: "Repo") -> Upstream:
    from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

    graph = get_active_graph(repo.index.graph)
    order = plan_repro(graph, collect_stages(repo, ["dvc.yaml"]))
    return {stage.addressing: frozenset(other.addressing for other in graph.successors(stage)) for stage in order}


def closing_stages(upstream: Upstream) -> list[str]:
    """The stages at the end that all others come before: nothing can run beside one of them."""
    ancestors: dict[str, frozenset[str]] = {}
    for stage, direct in upstream.items():
        ancestors[stage] = direct.union(*(ancestors[other] for other in direct))
    order = list(upstream)
    last: list[str] = []
    while order and len(ancestors[order[-1]]) == len(order) - 1:
        last.insert(0, order.pop())
    return last


class Schedule:
    """Which stage may start next.

    A stage that DVC finds unchanged, behind stages of which none has run, is passed over: asking DVC once more costs
    seconds. All other stages are left to DVC, which skips what turns out to be up to date.

    Args:
        upstream: stage -> the stages that it waits for, in an order that works.
        changed: the stages that DVC finds changed before anything runs.
        closing: stages that are left out.
    """

    def __init__(self, upstream: Upstream, changed: Iterable[str], closing: Iterable[str] = ()) -> None:
        self._upstream = {stage: upstream[stage] for stage in upstream if stage not in set(closing)}
        self._changed = frozenset(changed)
        self._waiting = list(self._upstream)
        self._done: set[str] = set()
        self._run: set[str] = set()

    @property
    def total(self) -> int:
        """How many stages there are."""
        return len(self._upstream)

    @property
    def done(self) -> int:
        """How many of them are done or up to date."""
        return len(self._done)

    def next(self) -> str | None:
        """A stage to be started now; None where all that are left wait for others."""
        for stage in list(self._waiting):
            if self._upstream[stage] <= self._done:
                self._waiting.remove(stage)
                if stage in self._changed or self._upstream[stage] & self._run:
                    return stage
                self._done.add(stage)
        return None

    def finish(self, stage: str) -> None:
        """Say that a stage that was started has ended well."""
        self._done.add(stage)
        self._run.add(stage)


POLL = 0.1  # seconds
LOCK = WORK / "parallel.lock"
DEFAULT_WORKERS = 2  # without a GPU


def run_stages(schedule: Schedule, workers: Sequence[Worker]) -> None:
    """Run all stages of a schedule; one that fails keeps others from starting, but ends none.

    Raises:
        ParallelError: a stage failed.
    """
    failed: list[Worker] = []
    with tqdm(total=schedule.total, desc="stages", unit="stage", dynamic_ncols=True, disable=None) as bar:
        try:
            while (not failed and _start(schedule, workers)) or any(worker.stage for worker in workers):
                failed += _collect(schedule, workers)
                bar.n = schedule.done
                bar.set_postfix_str(", ".join(worker.stage for worker in workers if worker.stage))
                time.sleep(POLL)
        finally:
            end_all(workers)
    if failed:
        raise ParallelError(_failure(failed))


def _start(schedule: Schedule, workers: Sequence[Worker]) -> bool:
    """Begin what is ready where there is room; whether anything was begun."""
    begun = False
    for worker in workers:
        if worker.stage is None and (stage := schedule.next()):
            worker.start(stage)
            begun = True
    return begun


def _collect(schedule: Schedule, workers: Sequence[Worker]) -> list[Worker]:
    """Take note of the stages that have ended; those that failed are returned, each in a worker of its own."""
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
    names, logs = (", ".join(words) for words in zip(*((str(w.stage), str(w.log)) for w in failed), strict=True))
    return f"{names} failed: see {logs}; what is finished stays finished, the same command goes on from here"


def _finish() -> None:
    """A plain `dvc repro`, with its output on the terminal."""
    process = start_dvc(["--wait-for-lock", "repro"])
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        wait_or_kill(process, time.monotonic() + GRACE)
        raise
    if code:
        raise ParallelError("the closing `dvc repro` failed, for the reason above")


def _gpus() -> list[str]:
    """The names of the GPUs that this process may use."""
    import torch

    count = torch.cuda.device_count()
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",")[:count] if given else [str(number) for number in range(count)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.parallel", description="dvc repro, several stages at once"
    )
    text = f"how many stages at once; default: one for each GPU, {DEFAULT_WORKERS} without"
    parser.add_argument("-j", "--jobs", type=int, metavar="N", help=text)
    return parser.parse_args()


def main() -> None:
    """Command line."""
    options = _options()
    if options.jobs is not None and options.jobs < 1:
        raise ParallelError(f"--jobs: expected 1 or more, got {options.jobs}")
    LOCK.parent.mkdir(exist_ok=True)
    try:
        with FileLock(LOCK, timeout=0):
            _run(options.jobs)
    except Timeout as error:
        raise ParallelError("another `pipeline.parallel` runs in this folder: wait for it, or end it") from error


def _run(jobs: int | None) -> None:
    from joblib import cpu_count

    upstream, changed = read_stages()
    gpus = _gpus()
    jobs = jobs or len(gpus) or DEFAULT_WORKERS
    workers = [Worker(environment) for environment in environments(jobs, cpu_count(), gpus, os.environ)]
    run_stages(Schedule(upstream, changed, closing_stages(upstream)), workers)
    _finish()


if __name__ == "__main__":
    run_stage(main)
