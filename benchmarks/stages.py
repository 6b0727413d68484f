"""The cost of each stage of a run: processor time, peak memory and bytes, one stage after the other on one core.

    python -m benchmarks.stages                        # the default run; --params FILE for another one

The table has a row for each stage and a column for what its processor time was spent on (`benchmarks.stage_profile`).
DVC's own time is not part of it.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ruamel.yaml import YAML

from pipeline.running.atomic_outputs import WORK

PROJECT = Path(__file__).parents[1]
PROFILE = Path("profile.json")  # what benchmarks.stage_profile writes, in the folder of the outputs' scratch files
COPIED = (
    "benchmarks/stage_profile.py",
    "data",
    "models",
    "pipeline",
    "weights",
    "dvc.yaml",
    ".dvc/config",
    ".dvc/plots",
)
ONE_CORE = {"OMP_NUM_THREADS": "1", "LOKY_MAX_CPU_COUNT": "1"}
SHOWN_SECONDS = 5.0  # columns of the table with less time in all stages together are left out
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
        parts: processor seconds by what they were spent on; empty if the run was not profiled.
    """

    stage: str
    seconds: float
    wall: float
    peak_mib: float
    bytes: int
    parts: dict[str, float] = field(default_factory=dict)

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


def run(folder: Path, profiled: bool = False) -> Iterator[StageCost]:
    """Run every stage of a copy in topological order, without DVC's bookkeeping.

    Args:
        folder: of the copy.
        profiled: whether to sample what the stages' processor time is spent on.

    Raises:
        RuntimeError: a stage failed.
    """
    from dvc.repo import Repo
    from dvc.repo.reproduce import plan_repro

    with Repo(str(folder)) as repo:
        stages = [(s.name, s.cmd, [out.fs_path for out in s.outs]) for s in plan_repro(repo.index.graph)]
    profile = folder / WORK / PROFILE
    for name, command, outs in stages:
        run_with = f"python -m benchmarks.stage_profile {profile} " if profiled else "python -m "
        seconds, wall, peak = measure(command.replace("python -m ", run_with, 1), folder)
        parts = json.loads(profile.read_text()) if profiled else {}
        yield StageCost(name, seconds, wall, peak, sum(size(Path(out)) for out in outs), parts)


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


def table(costs: Sequence[StageCost]) -> Iterator[str]:
    """Processor seconds of each stage and of what they were spent on, as a table in Markdown."""
    spent: Counter[str] = Counter()
    for cost in costs:
        spent.update(cost.parts)
    columns = [name for name, seconds in spent.most_common() if seconds >= SHOWN_SECONDS]
    yield f"| stage | seconds | {' | '.join(columns)} | peak MiB |"
    yield "|---" * (len(columns) + 3) + "|"
    for cost in costs:
        cells = [f"{cost.parts.get(name, 0):.1f}" for name in columns]
        yield f"| {cost.stage} | {cost.seconds:.1f} | {' | '.join(cells)} | {cost.peak_mib:.0f} |"
    total = sum(cost.seconds for cost in costs)
    yield f"| all | {total:.0f} | {' | '.join(f'{spent[name]:.0f}' for name in columns)} | |"


def processor() -> str:
    """The processor's name, and whether it multiplies bfloat16."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    fields = dict(line.partition(":")[::2] for line in lines)
    name, flags = (
        next((v.strip() for k, v in fields.items() if k.strip() == key), "") for key in ("model name", "flags")
    )
    units = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags.split()]
    return f"{name or platform.processor()}, bfloat16 units: {', '.join(units) or 'none'}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Processor time of each stage.")
    parser.add_argument("--params", type=Path, default=PROJECT / "params.yaml")
    parser.add_argument("--keep", type=Path, help="copy the artifacts of the run into this new folder")
    options = parser.parse_args()
    costs = []
    print(processor(), flush=True)
    with project(YAML(typ="safe").load(options.params)) as folder:
        for cost in run(folder, profiled=True):
            costs.append(cost)
            print(f"{cost.stage}: {cost.seconds:.1f} s", file=sys.stderr, flush=True)
            if options.keep:
                shutil.copytree(folder / "artifacts", options.keep, dirs_exist_ok=True)
    print("\n".join(table(costs)))


if __name__ == "__main__":
    main()
