"""The processes that share one training: how they are started, and what they ask of each other. Not a stage.

By `processes` in params.yaml the stage starts itself again so many times; `accelerate launch` starts it on several
machines. Either way accelerate finds in the environment which process this one is. One process alone needs none of it.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch

from models.data_parallel import Rank
from pipeline.running.atomic_outputs import WORK
from pipeline.running.entry import OUR_PACKAGES
from pipeline.running.seeds import choose_device

ECHO_SECONDS = 10.0  # that an error waits which may only be the echo of another process's end
SAME_ERROR_SECONDS = 2.0  # in which the first process says itself what went wrong in all of them
STOP_SECONDS = 60.0  # that processes get to write their checkpoint
LOGS = "processes"  # folder below work/

Written = TypeVar("Written")


class TeamError(RuntimeError):
    """A training that cannot be shared, or one of its processes that died; the text is one line."""


class Team(Rank):
    """A training's process by itself."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @property
    def is_first(self) -> bool:
        """Whether this process writes files, checkpoints, curves and progress; no other one does."""
        return self.index == 0

    def agree(self, wish: bool) -> bool:
        """Whether any process wishes it; all must ask at the same place."""
        return wish

    def wrap(self, network: torch.nn.Module) -> torch.nn.Module:
        """The network to call while it trains, whose gradients are the means over all processes after backward."""
        return network

    def mean_of(self, values: Mapping[str, float]) -> dict[str, float]:
        """Numbers that are means over this process's part as means over the batch."""
        return dict(values)

    def collect(self, values: Mapping[int, float], count: int) -> list[float]:
        """All of `count` numbers, of which each process has some, by their places."""
        return [values[place] for place in range(count)]

    def first(self, context: Callable[[], AbstractContextManager[Written]]) -> AbstractContextManager[Written | None]:
        """A context that only the first process enters, because it writes; None to the others."""
        return context() if self.is_first else nullcontext()


class _Member(Team):
    """One of several processes, by Hugging Face accelerate."""

    def __init__(self) -> None:
        from accelerate import Accelerator, DistributedDataParallelKwargs

        gpus = torch.cuda.device_count()
        if 0 < gpus <= int(os.environ.get("LOCAL_RANK", "0")):
            raise TeamError(
                f"processes: more than the {gpus} GPUs of this machine; set processes to {gpus}, or hide the GPUs "
                "with CUDA_VISIBLE_DEVICES= to train on the CPU"
            )
        choose_device()  # for its deterministic kernels
        whole = DistributedDataParallelKwargs(static_graph=True, broadcast_buffers=False)
        self._accelerator = Accelerator(cpu=not gpus, kwargs_handlers=[whole])
        device = self._accelerator.device
        super().__init__(torch.device("cpu") if device.type == "cpu" else device)  # torch.load knows no "cpu:0"
        self.index, self.count = self._accelerator.process_index, self._accelerator.num_processes

    def sum_over_ranks(self, value: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor = self._accelerator.reduce(value.to(self.device), "sum")
        return total.to(value.device)

    def agree(self, wish: bool) -> bool:
        return bool(self.sum_over_ranks(torch.tensor(float(wish))))

    def wrap(self, network: torch.nn.Module) -> torch.nn.Module:
        wrapped: torch.nn.Module = self._accelerator.prepare_model(network)
        return wrapped

    def mean_of(self, values: Mapping[str, float]) -> dict[str, float]:
        means = self.sum_over_ranks(torch.tensor(list(values.values()), dtype=torch.float64)) / self.count
        return dict(zip(values, means.tolist(), strict=True))

    def collect(self, values: Mapping[int, float], count: int) -> list[float]:
        table = torch.zeros(count, dtype=torch.float64)
        for place, value in values.items():
            table[place] = value
        return self.sum_over_ranks(table).tolist()

    def end(self) -> None:
        self._accelerator.end_training()


@contextmanager
def gathered(**batches: int) -> Iterator[Team]:
    """This process's place among those that share its training; alone where it was started alone.

    Args:
        batches: what must be shared evenly, by the name of its section in params.yaml.

    Raises:
        TeamError: a batch that cannot be, or fewer GPUs than processes.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    for section, batch in batches.items():
        if batch % count:
            raise TeamError(f"{section}.batch: {batch} cannot be shared evenly by {count} processes; take a multiple")
    if count == 1:
        yield Team(choose_device())
        return
    team = _Member()
    try:
        yield team
    except Exception as error:
        if type(error).__module__.split(".")[0] not in OUR_PACKAGES:
            # When another process dies, this one only sees its connection close. Who watches them all ends this one
            # meanwhile, and says what happened; else it was this one's own error.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(ECHO_SECONDS)
        raise
    team.end()


def started(stage: str, count: int) -> bool:
    """Run this stage as `count` processes of this machine, and wait for them.

    Args:
        stage: the module that this process runs.
        count: how many share its trainings.

    Returns:
        False where nothing was started: for one process, or in one of those that share a training already.

    Raises:
        TeamError: one of them died; the others have been ended.
    """
    if count == 1 or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return False
    folder = WORK / LOGS
    folder.mkdir(parents=True, exist_ok=True)
    logs = [folder / f"{stage.rpartition('.')[2]}-{os.getpid()}-{index + 1}.log" for index in range(count)]
    children: list[subprocess.Popen[bytes]] = []
    try:
        environment = _shared_environment(count)
        for index in range(count):
            children.append(_start(stage, index, environment, logs[index]))
        _watch(children, logs)
    except (SystemExit, KeyboardInterrupt):
        _stop(children)
        raise
    finally:
        for child in children:
            child.kill()
            child.wait()
    for log in logs:
        log.unlink(missing_ok=True)
    return True


def _shared_environment(count: int) -> dict[str, str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cores = max(1, (os.cpu_count() or 1) // count)
    own = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    return {"OMP_NUM_THREADS": str(cores), **os.environ, **own, "MASTER_PORT": str(port)}


def _start(stage: str, index: int, environment: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
    """The first process is heard here; what the others say would be the same again, and goes into files."""
    own = {**environment, "RANK": str(index), "LOCAL_RANK": str(index)}
    command = [sys.executable, "-m", stage, *sys.argv[1:]]
    options: dict[str, Any] = {"env": own, "start_new_session": True}  # Ctrl-C reaches them by us alone
    if index == 0:
        return subprocess.Popen(command, **options)
    with log.open("wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, **options)


def _watch(children: "list[subprocess.Popen[bytes]]", logs: list[Path]) -> None:
    """Wait until all have ended well.

    Raises:
        TeamError: one has not; SystemExit where the first one has said so itself.
    """
    codes = [child.poll() for child in children]
    while None in codes and not any(codes):
        time.sleep(0.1)
        codes = [child.poll() for child in children]
    failed = next((index for index, code in enumerate(codes) if code), None)
    if failed is None:
        return
    deadline = time.monotonic() + SAME_ERROR_SECONDS
    while children[0].poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    for child in children:
        child.kill()  # their last checkpoint is whole
    if children[0].returncode and children[0].returncode > 0:
        sys.exit(children[0].returncode)
    raise TeamError(_obituary(failed, len(children), children[failed].returncode, logs[failed]))


def _obituary(index: int, count: int, code: int, log: Path) -> str:
    """One line: which process ended, and why."""
    who = f"process {index + 1} of the {count} that share this training"
    if code < 0:
        how = f"was killed by {signal.Signals(-code).name}"
        return f"{who} {how}; the others were ended; `uv run dvc repro` goes on from their last checkpoint"
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    said = next((line.strip() for line in reversed(lines) if line.strip()), f"exit code {code}")
    return f"{said.removeprefix('error: ')} ({who}; all it said is in {log})"


def _stop(children: "list[subprocess.Popen[bytes]]") -> None:
    """Ask all to write their checkpoint and end."""
    for child in children:
        child.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    while None in [child.poll() for child in children] and time.monotonic() < deadline:
        time.sleep(0.1)
