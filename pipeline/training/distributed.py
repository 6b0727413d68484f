"""Data-parallel training: the ranks of one training, by Hugging Face accelerate and torch.distributed.run.

`processes` in params.yaml starts that many ranks on this machine. `torchrun` or `accelerate launch` on the stage's
command starts ranks on several machines. A single rank needs neither.
"""

import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from models.data_parallel import Rank
from pipeline.running.atomic_outputs import WORK
from pipeline.running.entry import one_line
from pipeline.running.seeds import choose_device

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

PEER_SECONDS = 5.0  # that a rank with a lost connection waits for the launcher, which knows the rank that died
STOP_SECONDS = 60  # that ranks get to write their checkpoint
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"  # the launcher reads a rank's error from the file that this variable names


class RankError(RuntimeError):
    """A training that cannot be divided among ranks, or whose rank died. The text is one line."""


class TrainingRank(Rank):
    """The only rank of a training.

    Args:
        device: where it trains.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @property
    def is_first(self) -> bool:
        """Whether this rank writes files, checkpoints, curves and progress. No other rank does."""
        return self.index == 0

    def any_rank(self, flag: bool) -> bool:
        """Whether the flag is set on any rank. All ranks must call it at the same place."""
        return flag

    def wrap(self, network: torch.nn.Module) -> torch.nn.Module:
        """The network to call while it trains. After backward its gradients are the means over all ranks."""
        return network

    def mean_values(self, values: Mapping[str, float]) -> dict[str, float]:
        """Means over this rank's slice of the batch as means over the batch."""
        return dict(values)

    def gather(self, values: Mapping[int, float], count: int) -> list[float]:
        """All `count` numbers in their order. Each rank gives the numbers that it has, by their index."""
        return [values[index] for index in range(count)]


class _DistributedRank(TrainingRank):
    """One of several ranks. Their launcher names it in the environment."""

    def __init__(self) -> None:
        from accelerate import Accelerator, DistributedDataParallelKwargs

        gpus = torch.cuda.device_count()
        if 0 < gpus <= int(os.environ.get("LOCAL_RANK", "0")):
            raise RankError(
                f"processes: more than the {gpus} GPUs of this machine. Set processes to {gpus}, or hide the GPUs "
                "with CUDA_VISIBLE_DEVICES= to train on the CPU."
            )
        choose_device()  # for its deterministic kernels
        static = DistributedDataParallelKwargs(static_graph=True, broadcast_buffers=False)
        self._accelerator = Accelerator(cpu=not gpus, kwargs_handlers=[static])
        device = self._accelerator.device
        super().__init__(torch.device("cpu") if device.type == "cpu" else device)  # torch.load knows no "cpu:0"
        self.index, self.count = self._accelerator.process_index, self._accelerator.num_processes

    def sum_over_ranks(self, tensor: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor = self._accelerator.reduce(tensor.to(self.device), "sum")
        return total.to(tensor.device)

    def any_rank(self, flag: bool) -> bool:
        return bool(self.sum_over_ranks(torch.tensor(float(flag))))

    def wrap(self, network: torch.nn.Module) -> torch.nn.Module:
        wrapped: torch.nn.Module = self._accelerator.prepare_model(network)
        return wrapped

    def mean_values(self, values: Mapping[str, float]) -> dict[str, float]:
        means = self.sum_over_ranks(torch.tensor(list(values.values()), dtype=torch.float64)) / self.count
        return dict(zip(values, means.tolist(), strict=True))

    def gather(self, values: Mapping[int, float], count: int) -> list[float]:
        table = torch.zeros(count, dtype=torch.float64)
        for index, value in values.items():
            table[index] = value
        return self.sum_over_ranks(table).tolist()

    def end(self) -> None:
        self._accelerator.end_training()


@contextmanager
def training_rank(**batches: int) -> Iterator[TrainingRank]:
    """This process as a rank of its training: the only one unless a launcher started several.

    Args:
        batches: sizes of the batches to divide, by the name of their section in params.yaml.

    Raises:
        RankError: a batch that is no multiple of the number of ranks, or fewer GPUs than ranks.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    for section, batch in batches.items():
        if batch % count:
            raise RankError(f"{section}.batch: {batch} is no multiple of the {count} processes. Choose a multiple.")
    if count == 1:
        yield TrainingRank(choose_device())
        return
    try:
        rank = _DistributedRank()
        yield rank
        rank.end()
    except Exception as error:
        if ERROR_FILE not in os.environ:
            raise
        _report(error)
        sys.exit(1)


def _report(error: Exception) -> None:
    """Leave an error to the launcher, which prints the first rank's error, once."""
    from torch.distributed.elastic.multiprocessing.errors import get_error_handler

    text = one_line(error)
    if text is None:
        # The other ranks of a rank that dies only see their connection close. The launcher ends them meanwhile.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(PEER_SECONDS)
    get_error_handler().record_exception(error if text is None else RankError(text))


def launch_ranks(stage: str, count: int) -> bool:
    """Run a stage's command line again as `count` ranks on this machine, and wait for them.

    SIGTERM and Ctrl-C reach this process alone. It then asks the ranks to write their checkpoint and end. If this
    process dies, the ranks get SIGTERM from the system (see `pipeline.die_with_parent`).

    Args:
        stage: the module that this process runs.
        count: number of ranks.

    Returns:
        False if there is nothing to launch: for one process, or if this process is such a rank already.

    Raises:
        RankError: a rank died; the others have been ended.
    """
    if count == 1 or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return False
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    logging.disable()  # of the launcher: it would say what RankError says, in many lines
    name = f"{stage.rpartition('.')[2]}-{os.getpid()}"
    logs = WORK / "ranks" / name
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=name,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        signals_to_handle="",  # this process's handlers stay, and leave through the launcher's cleaning up
        shutdown_timeout=STOP_SECONDS,
        logs_specs=DefaultLogsSpecs(str(logs), redirects=dict.fromkeys(range(1, count), Std.ALL)),
    )
    try:
        elastic_launch(config, sys.executable)("-m", stage, *sys.argv[1:])
    except ChildFailedError as error:
        raise _failure(error, count, logs) from None
    shutil.rmtree(logs)
    return True


def _failure(error: "ChildFailedError", count: int, logs: Path) -> BaseException:
    """The first rank's failure as one line, or as its traceback if it is a bug."""
    index, failure = error.get_first_failure()
    rank = f"rank {index} of the {count} ranks 0 to {count - 1}"
    if failure.exitcode < 0:
        how = f"was killed by {failure.signal_name()}; the others were ended"
        return RankError(f"{rank} {how}. `uv run dvc repro` goes on from the last checkpoint.")
    report: Any = failure.message  # what _report wrote; a text if the rank failed before training_rank
    if isinstance(report, str):
        return RankError(f"{rank} ended with exit code {failure.exitcode}. Its output is in {logs}.")
    kind, _, text = report["message"].partition(": ")
    if kind == RankError.__name__:
        return RankError(f"{text} ({rank})")
    return SystemExit(f"{report['extraInfo']['py_callstack']}{rank} failed. Its output is in {logs}.")
