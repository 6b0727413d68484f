"""The training loop: steps, curves, checkpoints, resumption, costs."""

import csv
import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from tqdm import tqdm

from pipeline.running.atomic_outputs import replacing
from pipeline.running.entry import TERMINATED
from pipeline.running.progress import progress
from pipeline.running.seeds import seed_for
from pipeline.running.system_errors import system_error
from pipeline.training.distributed import TrainingRank

CHECKPOINT_SECONDS = 30.0
LONGEST_REASON = 200  # characters of another library's message
Curve = dict[int, dict[str, float]]


class CheckpointError(ValueError):
    """A checkpoint that cannot be read. The text names the file."""


def no_stream(step: int, values: dict[str, float]) -> None:
    """A stream that sends nothing: the curve is written to its file only."""


class Loop:
    """Yields training steps and saves checkpoints, so that a killed training resumes with the same result.

    The caller must derive all randomness from (seed, step). Then a resumed training draws the same numbers.

    Args:
        description: the progress bar's text.
        work: folder of the checkpoint, outside DVC's outs, which DVC deletes before a rerun.
        seed: the training's seed.
        device: where the training runs.
        stream: called with (step, values) at every logged step.
        rank: this process as a rank of the training. All ranks read the checkpoint, the first writes it.

    Attributes:
        curve: step (1-based) -> values by name.
        seconds: time spent in steps, over all resumptions.
        steps_run: number of steps that took this time.
    """

    def __init__(
        self,
        description: str,
        work: Path,
        seed: int,
        device: torch.device,
        stream: Callable[[int, dict[str, float]], None] = no_stream,
        rank: TrainingRank | None = None,
    ) -> None:
        self.description = description
        self.work = work
        self.seed = seed
        self.device = device
        self.curve: Curve = {}
        self.seconds = 0.0
        self.steps_run = 0
        self._stream = stream
        self._rank = rank or TrainingRank(device)
        self._stop = False
        self._bar: tqdm[Any] | None = None
        work.mkdir(parents=True, exist_ok=True)

    def steps(self, total: int, state: Mapping[str, Any]) -> Iterator[int]:
        """Yield the remaining steps, from 0. Checkpoints hold `state`, objects with `state_dict` by name.

        Raises:
            CheckpointError: the checkpoint cannot be read.
            SystemExit: after SIGTERM, when the checkpoint is written.
        """
        first = self._resume(state)
        before = signal.signal(signal.SIGTERM, self._request_stop)
        self._bar = self.bar(total)
        self._bar.update(first)
        saved = time.monotonic()
        try:
            for step in range(first, total):
                started = time.perf_counter()
                torch.manual_seed(seed_for(self.seed, "step", step))  # for dropout, if there is any
                yield step
                self.count(time.perf_counter() - started)
                self._bar.update()
                stop = self._rank.any_rank(self._stop)
                if stop or time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._save(step + 1, state)
                    saved = time.monotonic()
                if stop:
                    raise SystemExit(TERMINATED)
        finally:
            self._bar.close()
            signal.signal(signal.SIGTERM, before)

    def log(self, step: int, **values: float) -> None:
        """Add a point to the curve. `step` is 1-based: the number of steps done."""
        self.curve[step] = values
        if self._bar is not None and "loss" in values:
            self._bar.set_postfix(loss=f"{values['loss']:.4f}", refresh=False)
        self._stream(step, values)

    def bar(self, total: int) -> "tqdm[Any]":
        """A progress bar with this training's description."""
        return progress(total, self.description, "step", hidden=not self._rank.is_first)

    def finish(self) -> None:
        """Remove the checkpoint. Call it once the result is written."""
        if self._rank.is_first:
            (self.work / "checkpoint.pt").unlink(missing_ok=True)

    def count(self, seconds: float) -> None:
        """Add one step to the costs. Training loops of other libraries, which do not use `steps`, call this."""
        self.seconds += seconds
        self.steps_run += 1

    def write_curve(self, path: Path) -> None:
        """Write the curve as CSV: a column `step`, then one column for each value."""
        columns = list(dict.fromkeys(name for values in self.curve.values() for name in values))
        with path.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["step", *columns])
            writer.writerows(
                [step, *(f"{values[name]:.6g}" if name in values else "" for name in columns)]
                for step, values in sorted(self.curve.items())
            )

    def write_costs(self, path: Path, network: torch.nn.Module) -> None:
        """Write the costs as JSON: training_seconds, seconds_per_step, parameters (of the network)."""
        costs = {
            "training_seconds": round(self.seconds, 3),
            "seconds_per_step": round(self.seconds / max(self.steps_run, 1), 5),
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
        }
        with replacing(path) as scratch:
            scratch.write_text(json.dumps(costs, indent=1) + "\n")

    def _resume(self, state: Mapping[str, Any]) -> int:
        path = self.work / "checkpoint.pt"
        if not path.exists():
            return 0
        try:
            saved = torch.load(path, map_location=self.device, weights_only=True)
            for name, item in state.items():
                item.load_state_dict(saved["state"][name])
            self.curve = saved["curve"]
            self.seconds, self.steps_run = saved["seconds"], saved["steps_run"]
            return int(saved["step"])
        except Exception as error:  # the file may hold anything; torch and each load_state_dict raise different types
            if system_error(error):
                raise
            reason = " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__
            raise CheckpointError(
                f"{path}: damaged, or written by another version ({reason}). Remove it: the training then starts again."
            ) from error

    def _save(self, step: int, state: Mapping[str, Any]) -> None:
        if not self._rank.is_first:
            return
        content = {
            "step": step,
            "state": {name: item.state_dict() for name, item in state.items()},
            "curve": self.curve,
            "seconds": self.seconds,
            "steps_run": self.steps_run,
        }
        scratch = self.work / "checkpoint.tmp"
        torch.save(content, scratch)
        scratch.rename(self.work / "checkpoint.pt")

    def _request_stop(self, signum: int, frame: FrameType | None) -> None:
        self._stop = True
