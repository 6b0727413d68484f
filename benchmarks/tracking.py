"""Time that MLflow adds to a training: the same steps with and without it, against a local database.

    python -m benchmarks.tracking [--steps 200] [--milliseconds 850] [--repeats 3] [--seed 0]

A step is a small restorer's forward and backward pass, as many times as take that long when nothing else is done;
with the default settings, restorers take 200 steps of 480 to 1220 ms on 2 CPU cores. Prints the seconds of both, the
seconds that the training waited for MLflow, and the share of the stage that MLflow says it took: waiting, and all
processor time of the thread that sends. The database is new each time, so that making it is included.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from models.restorers import build_restorer
from models.restorers.contract import Restorer
from pipeline.running.entry import quieten
from pipeline.tracking.store import Store
from pipeline.tracking.streaming import Stream, live

SETTINGS = {"width": 8, "encoder_blocks": [1, 1], "middle_blocks": 1, "decoder_blocks": [1, 1]}
SIDE = 48  # pixels of a crop


def train(steps: int, passes: int, seed: int, stream: Stream) -> float:
    """Run training steps of so many passes; returns the seconds that all took."""
    torch.manual_seed(seed)
    restorer = build_restorer("nafnet", SETTINGS).train()
    optimizer = torch.optim.AdamW(restorer.parameters())
    began = time.perf_counter()
    for step in range(steps):
        loss = statistics.mean(_one(restorer, optimizer) for _ in range(passes))
        stream(step + 1, {"loss": loss, "pixel": loss, "learning_rate": 1e-3, "gradient_norm": 1.0})
    return time.perf_counter() - began


def passes_in(seconds: float) -> int:
    """How many passes take that long: at least one."""
    count = 100
    train(1, count // 10, 0, lambda step, values: None)
    return max(round(seconds * count / train(1, count, 0, lambda step, values: None)), 1)


def _one(restorer: Restorer, optimizer: torch.optim.Optimizer) -> float:
    images = torch.rand(2, 3, SIDE, SIDE)
    loss = (restorer(images) - images).abs().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def tracked(steps: int, passes: int, seed: int) -> tuple[float, float, float]:
    """Seconds of the whole stage with MLflow, those that the training waited, and the share that MLflow took."""
    began = time.perf_counter()
    with live("benchmark", "training", {}, "benchmark", "training") as stream:
        train(steps, passes, seed, stream)
    whole = time.perf_counter() - began
    store = Store("benchmark")
    (run,) = store.client.search_runs([store.experiment_id])
    return whole, getattr(stream, "waited"), run.data.metrics["tracking/share"]  # noqa: B009


def in_new_project(measure: Callable[[], tuple[float, float, float]]) -> tuple[float, float, float]:
    """Measure in an empty folder, where there is no database yet."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            return measure()
        finally:
            os.chdir(before)


def main() -> None:
    """Print a line for each repeat, then the medians."""
    parser = argparse.ArgumentParser(description="What MLflow costs a training.")
    for name, default in (("steps", 200), ("milliseconds", 850), ("repeats", 3), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    settings = parser.parse_args()
    quieten()
    passes, shares = passes_in(settings.milliseconds / 1000), []
    for _ in range(settings.repeats):
        plain = train(settings.steps, passes, settings.seed, lambda step, values: None)
        whole, waited, share = in_new_project(lambda: tracked(settings.steps, passes, settings.seed))
        shares.append(share)
        print(
            f"{plain:.1f} s without, {whole:.1f} s with MLflow ({whole / plain - 1:+.2%}); "
            f"waited {waited:.2f} s ({waited / whole:.2%}); with the thread's processor time {share:.2%}",
            flush=True,
        )
    print(f"median share {statistics.median(shares):.2%}")


if __name__ == "__main__":
    main()
