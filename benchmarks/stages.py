"""The cost of each stage of a run: processor time, peak memory and bytes, one stage after the other on one core."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ruamel.yaml import YAML

from pipeline.running.atomic_outputs import WORK

PROJECT = Path(__file__).parents[1]
COPIED = ("data", "models", "pipeline", "weights", "dvc.yaml", ".dvc/config", ".dvc/plots")
ONE_CORE = {"OMP_NUM_THREADS": "1", "LOKY_MAX_CPU_COUNT": "1"}
SHOWN = 3000  # last characters of a failed stage's output


@dataclass(frozen=True)
class StageCost:
    """What one stage used.

    Attributes:
        stage: its name in dvc.yaml with the item of the matrix, such as `degrade@fog`.
        seconds: of processor time, user and system, of all its processes.
        wall: seconds by the clock.
        peak_mib: resident memory of its largest process.
        bytes: of its outputs.
    """

    stage: str
    seconds: float
    wall: float
    peak_mib: float
    bytes: int

    @property
    def kind(self) -> str:
        """The stage without its item."""
        return self.stage.partition("@")[0]


@contextmanager
def project(params: dict[str, Any]) -> Iterator[Path]:
    """A temporary copy of the project with these parameters; relative paths in `data.root` are those of the project."""
    with TemporaryDirectory(prefix="restoration-") as name:
        folder = Path(name) / "project"
        for part in COPIED:
            source, target = PROJECT / part, folder / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(source, target)
        root = (PROJECT / params["data"]["root"]).resolve()
        params = {**params, "data": {**params["data"], "root": str(root)}}
        YAML().dump(params, folder / "params.yaml")
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
        yield folder


def run(folder: Path) -> Iterator[StageCost]:
    """Run every stage of a copy in topological order, without DVC's bookkeeping.

    Raises:
        RuntimeError: a stage failed.
    """
    from dvc.repo import Repo
    from dvc.repo.reproduce import plan_repro

    with Repo(str(folder)) as repo:
        stages = [(s.name, s.cmd, [out.fs_path for out in s.outs]) for s in plan_repro(repo.index.graph)]
    for name, command, outs in stages:
        seconds, wall, peak = measure(command, folder)
        yield StageCost(name, seconds, wall, peak, sum(size(Path(out)) for out in outs))


def measure(command: str, folder: Path) -> tuple[float, float, float]:
    """Processor seconds, seconds and peak MiB of a shell command run in a folder on one core.

    Raises:
        RuntimeError: it failed; the text has the end of its output.
    """
    log = folder / WORK / "output.txt"
    log.parent.mkdir(exist_ok=True)
    environment = {**os.environ, **ONE_CORE, "DVC_ROOT": str(folder)}
    started = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["bash", "-c", command], cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - started
    if process.returncode:
        raise RuntimeError(f"{command}\n{log.read_text(errors='replace')[-SHOWN:]}")
    return usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024


def size(path: Path) -> int:
    """The bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())
