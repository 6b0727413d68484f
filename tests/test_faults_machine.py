"""What the machine refuses, for real: a full disk, read-only folders, no home, clocks that jump, Ctrl-C."""

import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from data.dataset import Dataset
from data.images import write_image
from pipeline import prepare
from pipeline.datasets.recipes import recipe_of
from pipeline.degrade import degrade_dataset
from pipeline.metrics import MeanRecords
from pipeline.running.entry import run_stage
from pipeline.running.system_errors import AGAIN, system_error
from pipeline.settings.params import load_params
from pipeline.training.loop import Loop

ROOT = Path(__file__).parents[1]
Mount = Callable[..., Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts a small disk in memory; `read_only` makes it so after something was written."""
    mounted: list[Path] = []

    def small(name: str, size: str = "256k", read_only: bool = False) -> Path:
        place = tmp_path / name
        place.mkdir(exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=False, capture_output=True
        )
        if done.returncode:
            pytest.skip("mounting is not permitted here")
        mounted.append(place)
        if read_only:
            subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        return place

    yield small
    for place in mounted:
        subprocess.run(["umount", "-l", place], check=True)


def _stage(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str, main: Callable[[], None]) -> str:
    """A stage's main as `python -m` would run it; gives what it says when it ends."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DVC_ROOT", str(folder))
    monkeypatch.setattr(sys, "argv", ["stage", *arguments])
    try:
        with pytest.raises(SystemExit) as caught:
            run_stage(main)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return str(caught.value.code)


def _noise(size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)


def _database(folder: Path) -> None:
    with sqlite3.connect(folder / "mlflow.db") as database:
        database.execute("create table t (x blob)")
        for _ in range(20):
            database.execute("insert into t values (?)", (os.urandom(50_000),))


WRITERS: dict[str, Callable[[Path], Any]] = {
    "picture": lambda folder: write_image(folder / "x.png", _noise(500)),
    "records": lambda folder: MeanRecords(tuple(map(str, range(90_000))), {"x": np.random.rand(90_000)}).save(
        folder / "x"
    ),
    "weights": lambda folder: save_file({"x": torch.rand(200_000)}, folder / "x.safetensors"),
    "checkpoint": lambda folder: torch.save({"x": torch.rand(200_000)}, folder / "x.pt"),
    "table": lambda folder: pd.DataFrame(np.random.rand(9000, 9)).to_csv(folder / "x.csv"),
    "database": _database,
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_full_disk_is_one_line_whoever_writes(mount: Mount, write: Callable[[Path], Any]) -> None:
    with pytest.raises(Exception) as caught:
        write(mount("disk"))
    said = system_error(caught.value)
    assert said and "\n" not in said and AGAIN in said, caught.value


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_read_only_disk_is_one_line_whoever_writes(mount: Mount, write: Callable[[Path], Any]) -> None:
    with pytest.raises(Exception) as caught:
        write(mount("disk", read_only=True))
    said = system_error(caught.value)
    assert said and "\n" not in said, caught.value


def test_a_file_that_may_not_grow_is_one_line(tmp_path: Path) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OSError) as caught:
            write_image(tmp_path / "x.png", _noise(200))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG and "ulimit -f" in str(system_error(caught.value))


def test_other_errors_are_no_system_errors() -> None:
    for error in (ValueError("x"), KeyError("y"), OSError(errno.ENOENT, "no such file", "x"), RuntimeError("shape")):
        assert system_error(error) is None


def test_memory_that_is_not_there_is_one_line() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert "Lower batch or crop" in str(system_error(caught.value))


def test_a_stage_on_a_full_disk_says_so_and_leaves_no_half(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = mount("project", "400k")
    shutil.copyfile(ROOT / "params.tiny.yaml", folder / "params.yaml")
    said = _stage(folder, monkeypatch, "--out", "artifacts/clean", main=prepare.main)
    assert said.startswith("error: ") and "no space left on device. Free some disk space. Then run" in said
    assert not (folder / "artifacts").exists() and not list((folder / "work").rglob("*.png"))


@pytest.mark.parametrize("place", ["artifacts", "work", "."])
def test_a_stage_that_may_not_write_says_where(
    mount: Mount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    if place == ".":
        mount("project", "1m")
    shutil.copyfile(ROOT / "params.tiny.yaml", folder / "params.yaml")
    if place == ".":
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    else:
        mount(f"project/{place}", read_only=True)
    said = _stage(folder, monkeypatch, "--out", "artifacts/clean", main=prepare.main)
    assert said.startswith("error: ") and "read-only file system. Make it writable" in said
    assert place == "." or place in said


def _degraded(clean: Dataset, out: Path) -> dict[str, bytes]:
    settings = load_params(ROOT / "params.tiny.yaml").degrade
    degrade_dataset(clean, recipe_of(settings, "fog"), settings, 0, out)
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_clocks_that_jump_change_no_byte(
    make_dataset: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    clean = make_dataset(train=2, test=1)
    wanted = _degraded(clean, tmp_path / "now")
    jumps = iter(range(2_000_000_000, 0, -100_000))
    monkeypatch.setattr(time, "time", lambda: float(next(jumps)))
    for number, when in enumerate((0, 4_102_444_800)):  # 1970 and 2100
        for path in clean.folder.rglob("*"):
            os.utime(path, (when, when))
        assert _degraded(clean, tmp_path / f"jump{number}") == wanted


def test_a_training_goes_on_though_the_clock_goes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = iter(range(2_000_000_000, 0, -100_000))
    monkeypatch.setattr(time, "time", lambda: float(next(jumps)))
    monkeypatch.setattr("pipeline.training.loop.CHECKPOINT_SECONDS", 0.0)
    network = torch.nn.Linear(1, 1)
    steps = Loop("x", tmp_path, 0, torch.device("cpu")).steps(3, {"network": network})
    assert [next(steps), next(steps)] == [0, 1]
    steps.close()
    again = Loop("x", tmp_path, 0, torch.device("cpu"))
    assert list(again.steps(3, {"network": network})) == [1, 2] and again.seconds >= 0
