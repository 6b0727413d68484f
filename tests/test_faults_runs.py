"""Runs that are disturbed: Ctrl-C, no home, a second `dvc repro`, a cache that may not be written."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clones import clone as copy_project
from clones import environment as environment_of

from data.dataset import Dataset
from pipeline import INTERRUPTED

ROOT = Path(__file__).parents[1]
PATIENCE = 240.0  # seconds


def _started(folder: Path, command: list[str], environment: dict[str, str]) -> "subprocess.Popen[str]":
    """A process in a group of its own, as a terminal starts it; what it says goes into a file."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background ignore Ctrl-C
    try:
        with (folder / "said").open("w") as said:
            return subprocess.Popen(
                command, cwd=folder, env=environment, stdout=said, stderr=said, text=True, start_new_session=True
            )
    finally:
        signal.signal(signal.SIGINT, before)


def _wait(process: "subprocess.Popen[str]", happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert process.poll() is None and time.monotonic() < deadline, "it ended before it could be disturbed"
        time.sleep(0.02)


def _interrupt(process: "subprocess.Popen[str]", folder: Path) -> str:
    """Ctrl-C: every process of the group gets the signal. Gives all that was said."""
    os.killpg(process.pid, signal.SIGINT)
    process.wait(PATIENCE)
    return (folder / "said").read_text()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("pipeline", "models", "data"):
        (folder / name).symlink_to(ROOT / name)
    text = (ROOT / "params.tiny.yaml").read_text()
    assert "train: 16" in text
    (folder / "params.yaml").write_text(text.replace("train: 16", "train: 4000"))
    return folder


PREPARE = [sys.executable, "-m", "pipeline.prepare", "--out", "artifacts/clean"]


@pytest.mark.parametrize("moment", ["importing", "at work"])
def test_ctrl_c_in_a_stage_ends_it_without_a_traceback(project: Path, moment: str) -> None:
    process = _started(project, PREPARE, {**os.environ, "PYTHONPATH": ""})
    maps = Path(f"/proc/{process.pid}/maps")
    scratch = project / "work"
    imports = "_multiarray_umath"  # numpy, early in the imports
    _wait(process, lambda: imports in maps.read_text() if moment == "importing" else any(scratch.rglob("*.png")))
    said = _interrupt(process, project)
    assert process.returncode == 128 + signal.SIGINT
    assert said.count(INTERRUPTED) == 1 and "Traceback" not in said, said
    assert not (project / "artifacts").exists() and not list((project / "work").rglob("*.png"))


@pytest.mark.slow
@pytest.mark.parametrize("home", [None, "/proc/no/home"], ids=["none", "unwritable"])
def test_a_stage_needs_no_home(
    make_dataset: Callable[..., Dataset], tmp_path: Path, project: Path, home: str | None
) -> None:
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("train: 4000", "train: 4"))
    own = {
        name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME", "YOLO_CONFIG_DIR")
    }
    own |= {"PYTHONPATH": ""} | ({"HOME": home} if home else {})
    plan = ["plan", "--needs", "n", "--checked", "c", "--tasks", "t", "--restorer", "r", "--weights", "weights"]
    plan += ["--dag", str(ROOT / "dvc.yaml")]
    for command in (PREPARE, [sys.executable, "-m", f"pipeline.{plan[0]}", *plan[1:]]):
        done = subprocess.run(command, cwd=project, env=own, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert (project / "artifacts/clean/dataset.json").exists()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The project as it is, with a first stage that takes its time."""
    folder = copy_project(tmp_path / "project", "params.tiny.yaml")
    text = (folder / "params.yaml").read_text()
    (folder / "params.yaml").write_text(text.replace("train: 16", "train: 1000"))
    return folder


@pytest.mark.slow
def test_a_second_repro_is_refused_and_ctrl_c_says_how_to_go_on(clone: Path) -> None:
    environment = environment_of(clone)
    process = _started(clone, ["dvc", "repro", "prepare"], environment)
    _wait(process, lambda: any((clone / "work").rglob("images/*.png")))
    second = subprocess.run(
        ["dvc", "repro", "prepare"], cwd=clone, env=environment, capture_output=True, text=True, check=False
    )
    assert second.returncode != 0 and "Traceback" not in second.stderr
    assert "busy, it is being blocked by" in second.stderr or "Unable to acquire lock" in second.stderr
    said = _interrupt(process, clone)
    assert process.returncode != 0 and INTERRUPTED in said and "Traceback" not in said
    assert not (clone / "artifacts" / "clean").exists()
    text = (clone / "params.yaml").read_text()
    (clone / "params.yaml").write_text(text.replace("train: 1000", "train: 4"))
    again = subprocess.run(["dvc", "repro", "prepare"], cwd=clone, env=environment, capture_output=True, check=False)
    assert again.returncode == 0 and (clone / "artifacts" / "clean" / "dataset.json").exists()


@pytest.fixture
def read_only_cache(clone: Path) -> Iterator[Path]:
    cache = clone / ".dvc" / "cache"
    cache.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(cache)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    yield clone
    subprocess.run(["umount", "-l", cache], check=True)


@pytest.mark.slow
def test_a_read_only_cache_is_named_and_nothing_is_lost(read_only_cache: Path) -> None:
    text = (read_only_cache / "params.yaml").read_text()
    (read_only_cache / "params.yaml").write_text(text.replace("train: 1000", "train: 4"))
    environment = environment_of(read_only_cache)
    done = subprocess.run(
        ["dvc", "repro", "prepare"], cwd=read_only_cache, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0 and "Read-only file system" in done.stderr and "Traceback" not in done.stderr
    assert (read_only_cache / "artifacts" / "plan" / "checked.json").exists(), (
        "what the first stage made is still there"
    )
    shutil.rmtree(read_only_cache / "artifacts")
