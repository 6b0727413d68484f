"""The loop that trainings run in: progress, curves, checkpoints, resumption. Not a stage."""

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
from pipeline.running.system_errors import refusal
from pipeline.training.distributed import TrainingRank

CHECKPOINT_SECONDS = 30.0
LONGEST_REASON = 200  # characters of another library's message
Curve = dict[int, dict[str, float]]


class CheckpointError(ValueError):
    """A checkpoint that a training cannot go on from; the text names the file."""


def unseen(step: int, values: dict[str, float]) -> None:
    """Where curves go that are streamed nowhere: into their files only."""


class Loop:
    """Yields training steps and keeps what a killed training needs to go on as if nothing had happened.

    Randomness must be derived from (seed, step) by whoever runs the step; then a resumed training draws the
    same numbers, and the result is the same with and without a kill.

    Args:
        description: the progress bar's text.
        work: folder for the checkpoint, outside DVC's outs (DVC deletes those before a rerun).
        seed: of this training.
        device: where it runs.
        stream: called with (step, values) while it runs; curves are kept in any case.
        rank: the processes that share it; all of them read the checkpoint, the first one writes it.
    """

    def __init__(
        self,
        description: str,
        work: Path,
        seed: int,
        device: torch.device,
        stream: Callable[[int, dict[str, float]], None] = unseen,
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
        """Yield the steps still to do; `state` (objects with state_dict) is saved and restored."""
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
        """Record training curves at a step (1-based: after how many steps)."""
        self.curve[step] = values
        if self._bar is not None and "loss" in values:
            self._bar.set_postfix(loss=f"{values['loss']:.4f}", refresh=False)
        self._stream(step, values)

    def bar(self, total: int) -> "tqdm[Any]":
        """A progress bar with this training's name."""
        return progress(total, self.description, "step", hidden=not self._rank.is_first)

    def finish(self) -> None:
        """Forget the checkpoint: the result is in its place."""
        if self._rank.is_first:
            (self.work / "checkpoint.pt").unlink(missing_ok=True)

    def count(self, seconds: float) -> None:
        """Add a step of a trainer that brings a loop of its own to the costs."""
        self.seconds += seconds
        self.steps_run += 1

    def write_curve(self, path: Path) -> None:
        """Write the curve as CSV: step and one column a value."""
        columns = list(dict.fromkeys(name for values in self.curve.values() for name in values))
        with path.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["step", *columns])
            writer.writerows(
                [step, *(f"{values[name]:.6g}" if name in values else "" for name in columns)]
                for step, values in sorted(self.curve.items())
            )

    def write_costs(self, path: Path, network: torch.nn.Module) -> None:
        """Write what the training cost, as JSON: seconds, seconds a step, parameters."""
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
        except Exception as error:  # a file of any content: torch and every load_state_dict fail in their own ways
            if refusal(error):
                raise
            reason = " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__
            raise CheckpointError(
                f"{path}: damaged, or of another version; remove it, and this training begins anew ({reason})"
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
