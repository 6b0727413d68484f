"""As `dvc repro`, with several stages at once: `python -m pipeline.parallel -j 4`. Not a stage.

Each stage is run by DVC (`dvc repro --single-item`) as soon as those that it reads from are done; a plain `dvc repro`
at the end runs what nothing can run beside, and sees that all is as it would have left it.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence

from filelock import FileLock, Timeout
from tqdm import tqdm

from pipeline import runtime
from pipeline.parallel.stages import ParallelError, Schedule, closing_stages, read_stages
from pipeline.parallel.workers import GRACE, Worker, end_all, environments, start_dvc, wait_or_kill

POLL = 0.1  # seconds
LOCK = runtime.WORK / "parallel.lock"
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
    runtime.run_stage(main)
