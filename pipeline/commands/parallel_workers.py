"""The processes that stages run in: their share of the machine, their log files, and how they end. Not a stage."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from pipeline import die_with_parent
from pipeline.running.atomic_outputs import WORK
from pipeline.running.entry import TERMINATED

LOGS = WORK / "logs"
THREADS = ("OMP_NUM_THREADS", "LOKY_MAX_CPU_COUNT")  # of torch, and of joblib's processes
TRIES = 20  # of a stage that DVC finds busy
PAUSE = 3.0  # seconds between them
GRACE = 60.0  # seconds in which a training writes its checkpoint
TAIL = 20  # lines of a log that are shown
BUSY = ("Unable to acquire lock", "is busy, it is being blocked by")


def environments(workers: int, cores: int, devices: Sequence[str], given: Mapping[str, str]) -> list[dict[str, str]]:
    """The environment of each worker: its share of the cores and its GPU; what the user has set stays.

    Args:
        workers: how many there are, at least 1.
        cores: of this machine.
        devices: names of the GPUs as in CUDA_VISIBLE_DEVICES; none for a machine without.
        given: the environment of this process.
    """
    share = {name: str(max(1, cores // workers)) for name in THREADS}
    gpus = [{"CUDA_VISIBLE_DEVICES": devices[number % len(devices)]} if devices else {} for number in range(workers)]
    return [{**share, **given, **gpu} for gpu in gpus]


@dataclass
class Worker:
    """A place in which one stage after the other runs.

    Args:
        environment: of its processes.
    """

    environment: Mapping[str, str]
    stage: str | None = None
    started: float = 0.0
    _process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)
    _tries: int = 0
    _again: float | None = None

    @property
    def log(self) -> Path:
        """Where all output of the stage goes."""
        return LOGS / f"{(self.stage or '').replace(os.sep, '_')}.log"

    def start(self, stage: str) -> None:
        """Begin a stage."""
        self.stage, self.started, self._tries = stage, time.monotonic(), 0
        self._launch()

    def poll(self) -> int | None:
        """The exit code of the stage, or None while it runs. A stage that DVC finds busy is begun again."""
        if self._again is not None:
            if time.monotonic() >= self._again:
                self._again = None
                self._launch()
            return None
        code = self._process.poll() if self._process else None
        if code and self._tries < TRIES and self._was_busy():
            self._again = time.monotonic() + PAUSE
            return None
        return code

    def tail(self) -> str:
        """The last lines that the stage wrote."""
        with self.log.open(errors="replace") as file:
            return "".join(deque(file, maxlen=TAIL)).rstrip()

    def terminate(self) -> None:
        """Ask the stage to end."""
        if self._process and self._process.poll() is None:
            self._process.terminate()

    def wait_or_kill(self, until: float) -> None:
        """Wait for the end of a stage that was asked to, and kill it at `until` (of time.monotonic)."""
        if self._process:
            wait_or_kill(self._process, until)

    def _launch(self) -> None:
        assert self.stage is not None
        self._tries += 1
        LOGS.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self._process = start_dvc(
                ["--wait-for-lock", "repro", "--single-item", self.stage],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _was_busy(self) -> bool:
        """Whether DVC refused to begin: what the stage itself wrote before it failed does not count."""
        text = self.log.read_text(errors="replace")
        return "Running stage" not in text and any(words in text for words in BUSY)


def start_dvc(arguments: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
    """Start DVC in a process that passes a SIGTERM on to its stage.

    Args:
        arguments: of the command `dvc`.
        options: of subprocess.Popen.
    """
    command = [sys.executable, "-m", "pipeline.commands.parallel_workers", *arguments]
    process: subprocess.Popen[bytes] = subprocess.Popen(command, **options)
    return process


def wait_or_kill(process: "subprocess.Popen[bytes]", until: float) -> None:
    """Wait for the end of a DVC that was asked to end; at `until` (of time.monotonic) it is killed with its stage."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(max(0.0, until - time.monotonic()))
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def end_all(workers: Sequence[Worker]) -> None:
    """End what runs: trainings write their checkpoints, and what is not gone after a minute is killed."""
    for worker in workers:
        worker.terminate()
    until = time.monotonic() + GRACE
    try:
        for worker in workers:
            worker.wait_or_kill(until)
    finally:  # a second Ctrl-C
        for worker in workers:
            worker.wait_or_kill(0.0)


def end(signum: int, frame: FrameType | None) -> None:
    """Pass SIGTERM on to the stage, and let DVC see it fail: killed itself, DVC would leave its locks behind.

    DVC ignores Ctrl-C exactly while a stage runs, by which that is known.
    """
    stage_runs = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(os.getpgrp(), signal.SIGTERM)
    if not stage_runs:
        raise SystemExit(TERMINATED)


def main() -> None:
    """Command line: what `dvc` takes."""
    if os.getpgrp() != os.getpid():
        os.setpgrp()  # the signal is for this process and its children alone
    signal.signal(signal.SIGTERM, end)
    die_with_parent()
    from dvc.cli import main as dvc

    sys.exit(dvc(sys.argv[1:]))


if __name__ == "__main__":
    main()
