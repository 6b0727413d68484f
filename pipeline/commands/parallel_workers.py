"""Workers of `parallel`: processes in which DVC runs single stages, with their environments, logs and termination.

`python -m pipeline.commands.parallel_workers` is `dvc`, but passes SIGTERM on to its stage.
"""

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
TRIES = 20  # of a stage whose files DVC finds busy
PAUSE = 3.0  # seconds between them
GRACE = 60.0  # seconds in which a training writes its checkpoint
TAIL = 20  # lines of a log that are shown
BUSY = ("Unable to acquire lock", "is busy, it is being blocked by")


def environments(
    workers: int, cores: int, devices: Sequence[str], inherited: Mapping[str, str]
) -> list[dict[str, str]]:
    """The environment of each worker: its part of the cores, and its GPU. Variables that the user has set stay.

    Args:
        workers: number of workers, at least 1.
        cores: number of cores of this machine.
        devices: names of the GPUs as in CUDA_VISIBLE_DEVICES; empty without GPUs.
        inherited: the environment of this process.
    """
    threads = {name: str(max(1, cores // workers)) for name in THREADS}
    gpus = [{"CUDA_VISIBLE_DEVICES": devices[number % len(devices)]} if devices else {} for number in range(workers)]
    return [{**threads, **inherited, **gpu} for gpu in gpus]


@dataclass
class Worker:
    """Runs single stages, one after another.

    Args:
        environment: the environment of the processes.
    """

    environment: Mapping[str, str]
    stage: str | None = None
    started: float = 0.0
    _process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)
    _tries: int = 0
    _retry_at: float | None = None

    @property
    def log(self) -> Path:
        """The file that gets all output of the stage."""
        return LOGS / f"{(self.stage or '').replace(os.sep, '_')}.log"

    def start(self, stage: str) -> None:
        """Start a stage."""
        self.stage, self.started, self._tries = stage, time.monotonic(), 0
        self._launch()

    def poll(self) -> int | None:
        """The exit code of the stage, or None while it runs. A stage whose files DVC finds busy is started again."""
        if self._retry_at is not None:
            if time.monotonic() >= self._retry_at:
                self._retry_at = None
                self._launch()
            return None
        code = self._process.poll() if self._process else None
        if code and self._tries < TRIES and self._was_busy():
            self._retry_at = time.monotonic() + PAUSE
            return None
        return code

    def tail(self) -> str:
        """The last lines that the stage wrote."""
        with self.log.open(errors="replace") as file:
            return "".join(deque(file, maxlen=TAIL)).rstrip()

    def terminate(self) -> None:
        """Send SIGTERM to the stage."""
        if self._process and self._process.poll() is None:
            self._process.terminate()

    def wait_or_kill(self, until: float) -> None:
        """Wait for the stage to end, and kill it at `until` (on time.monotonic)."""
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
        """Whether DVC refused to start the stage; output of the stage itself does not count."""
        text = self.log.read_text(errors="replace")
        return "Running stage" not in text and any(message in text for message in BUSY)


def start_dvc(arguments: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
    """Start DVC in a process that passes SIGTERM on to its stage.

    Args:
        arguments: of the command `dvc`.
        options: of subprocess.Popen.
    """
    command = [sys.executable, "-m", "pipeline.commands.parallel_workers", *arguments]
    process: subprocess.Popen[bytes] = subprocess.Popen(command, **options)
    return process


def wait_or_kill(process: "subprocess.Popen[bytes]", until: float) -> None:
    """Wait for DVC to end; kill it with its stage at `until` (on time.monotonic)."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(max(0.0, until - time.monotonic()))
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def end_all(workers: Sequence[Worker]) -> None:
    """Send SIGTERM to all running stages; trainings write a checkpoint. Kill what still runs after a minute."""
    for worker in workers:
        worker.terminate()
    until = time.monotonic() + GRACE
    try:
        for worker in workers:
            worker.wait_or_kill(until)
    finally:  # a second Ctrl-C
        for worker in workers:
            worker.wait_or_kill(0.0)


def _pass_on_sigterm(signum: int, frame: FrameType | None) -> None:
    """Pass SIGTERM on to the stage, and let DVC see it fail. If DVC were killed, its locks would remain.

    DVC ignores SIGINT exactly while a stage runs, which shows whether one runs.
    """
    stage_runs = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(os.getpgrp(), signal.SIGTERM)
    if not stage_runs:
        raise SystemExit(TERMINATED)


def main() -> None:
    """Command line: the arguments of `dvc`."""
    if os.getpgrp() != os.getpid():
        os.setpgrp()  # only this process and its children get the signal
    signal.signal(signal.SIGTERM, _pass_on_sigterm)
    die_with_parent()
    from dvc.cli import main as dvc

    sys.exit(dvc(sys.argv[1:]))


if __name__ == "__main__":
    main()
