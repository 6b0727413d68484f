"""SIGKILL at random moments in every stage, and then `dvc repro`: as if nothing had happened.

uv run pytest -m slow -k killed -s        # prints seeds and moments
"""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from clones import TABLES, clone, environment

KILLS = 50
EACH = 2  # in each stage of one run
RUNS = 4  # at most: some kills come when their stage is over already
SEED = int(os.environ.get("KILL_SEED", "0"))
BEGUN = re.compile(r"Running stage '([^']+)'")
LONGEST = 3600.0  # seconds of one `dvc repro`
POLL = 0.02


class Repro:
    """A `dvc repro` that can be killed, alone or with all that it started."""

    def __init__(self, folder: Path) -> None:
        self.log = folder.parent / "repro.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["dvc", "repro"],
                cwd=folder,
                env=environment(folder),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stage(self) -> str | None:
        """The stage that was begun last."""
        found = BEGUN.findall(self.log.read_text(errors="replace"))
        return found[-1] if found else None

    def wait(self, begun: Callable[[str], bool]) -> None:
        """Until a stage begins of which `begun` says so, or the end."""
        until, last = time.monotonic() + LONGEST, None
        while self.process.poll() is None:
            stage = self.stage()
            if stage != last and stage is not None and begun(stage):
                return
            last = stage
            assert time.monotonic() < until
            time.sleep(POLL)

    def kill(self, all_of_it: bool) -> None:
        """SIGKILL; of DVC alone, its stage must end by itself."""
        if all_of_it:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        self.process.wait()
        until = time.monotonic() + 120
        while self._any_left():
            assert time.monotonic() < until, "a stage outlived its DVC"
            time.sleep(POLL)

    def _any_left(self) -> bool:
        """Whether a process of the session runs; zombies that nobody collects here do not count."""
        for place in Path("/proc").glob("[0-9]*"):
            try:
                fields = (place / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == self.process.pid and fields[0] != "Z":
                return True
        return False


@pytest.fixture(scope="module")
def unkilled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """A run that nothing happened to, and the seconds that each stage took."""
    folder = clone(tmp_path_factory.mktemp("unkilled") / "project", "params.tiny.yaml")
    begun: dict[str, float] = {}

    def note(stage: str) -> bool:
        begun.setdefault(stage, time.monotonic())
        return False

    repro = Repro(folder)
    repro.wait(note)
    assert repro.process.returncode == 0, repro.log.read_text()[-3000:]
    moments = [*begun.values(), time.monotonic()]
    return folder, dict(zip(begun, (b - a for a, b in pairwise(moments)), strict=True))


@pytest.mark.slow
def test_a_run_killed_in_every_stage_ends_in_the_same_tables(
    unkilled: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    finished, seconds = unkilled
    hit: Counter[str] = Counter()
    for number in range(RUNS):
        if hit.total() >= KILLS and set(hit) == set(seconds):
            break
        folder = clone(tmp_path / f"{number}" / "project", "params.tiny.yaml")
        hit += _killed_run(folder, seconds, random.Random(SEED + number))
        for name in TABLES:
            path = Path("artifacts") / "report" / name
            assert (folder / path).read_bytes() == (finished / path).read_bytes(), f"{name}, seed {SEED + number}"
    print(f"{hit.total()} kills: {dict(hit)}")
    assert hit.total() >= KILLS and set(hit) == set(seconds)


def _killed_run(folder: Path, seconds: dict[str, float], generator: random.Random) -> "Counter[str]":
    """Run to the end, with kills at random moments of each stage; returns how many hit which stage."""
    left, hit = dict.fromkeys(seconds, EACH), Counter[str]()
    while True:
        repro = Repro(folder)
        repro.wait(lambda stage: left.get(stage, 0) > 0)
        stage = repro.stage()
        if repro.process.poll() is not None:
            assert repro.process.returncode == 0, repro.log.read_text()[-3000:]
            return hit
        assert stage is not None
        left[stage] -= 1
        moment, all_of_it = generator.uniform(0, 0.9) * seconds[stage], generator.random() < 0.5
        time.sleep(moment)
        if repro.process.poll() is None and repro.stage() == stage:
            hit[stage] += 1
        print(f"killed in {repro.stage()}, {moment:.2f} s after {stage} began, {'all' if all_of_it else 'dvc alone'}")
        repro.kill(all_of_it)


TRAINING = """
import sys, time
from pathlib import Path
import torch
import pipeline.training.loop
from pipeline.training.loop import Loop

pipeline.training.loop.CHECKPOINT_SECONDS = float(sys.argv[1])
network = torch.nn.Linear(4, 4)
torch.nn.init.ones_(network.weight)
torch.nn.init.zeros_(network.bias)
optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
loop = Loop("test", Path("work"), 0, torch.device("cpu"))
with open("steps.txt", "a", buffering=1) as log:
    for step in loop.steps(int(sys.argv[2]), {"network": network, "optimizer": optimizer}):
        loss = network(torch.randn(8, 4)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loop.log(step + 1, loss=loss.item())
        time.sleep(0.005)
        print(step, time.monotonic(), file=log)
torch.save([network.state_dict(), loop.curve], "result.pt")
"""


@pytest.mark.slow
def test_a_killed_training_loses_no_more_than_one_checkpoint_interval(tmp_path: Path) -> None:
    interval, steps, generator = 0.5, 1500, random.Random(SEED)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    assert _start_training(whole, interval, steps).wait() == 0
    kills = 0
    while (process := _start_training(killed, interval, steps)).poll() is None:
        before = len(_steps(killed))
        while process.poll() is None and len(_steps(killed)) == before:
            time.sleep(POLL)  # it imports torch
        try:
            process.wait(generator.uniform(0, 4 * interval))
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
    assert process.returncode == 0 and kills >= 3
    (weights, curve), (expected, expected_curve) = (torch.load(folder / "result.pt") for folder in (killed, whole))
    assert curve == expected_curve and all(torch.equal(weights[name], expected[name]) for name in expected)
    done = _steps(killed)
    assert sorted({step for step, _ in done}) == list(range(steps))
    restarts = [place for place in range(1, len(done)) if done[place][0] != done[place - 1][0] + 1]
    for place in restarts:
        again = done[place][0]  # the first step that was lost
        lost = [moment for step, moment in done[:place] if step >= again]
        first = max(moment for step, moment in done[:place] if step == again)
        assert max(lost) - first <= interval + 0.5, "more than one interval, and what a busy machine adds, was lost"
    print(f"{kills} kills, seed {SEED}; lost steps: {[done[p - 1][0] - done[p][0] + 1 for p in restarts]}")


def _start_training(folder: Path, interval: float, steps: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", TRAINING, str(interval), str(steps)]
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL)


def _steps(folder: Path) -> list[tuple[int, float]]:
    """(step, moment) of what has been run so far."""
    path = folder / "steps.txt"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [(int(step), float(moment)) for step, moment in (line.split() for line in lines if line.endswith("\n"))]
