"""Stages as DVC runs them, on what another stage has left damaged: one line on stderr, nothing half-written."""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.dataset import Dataset
from models.restorers import build_restorer, save_restorer
from pipeline.running.entry import run_stage
from tests.fault_table import cut, edit

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries behind the stages
ROOT = Path(__file__).parents[1]
NAFNET = {"width": 4, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]}
PREPARE = ["prepare", "--out", "out"]
DEGRADE = ["degrade", "--recipe", "fog", "--clean", "clean", "--out", "out"]
RESTORE = ["restore", "--restorer", "trained", "--degraded", "clean", "--out", "out", "--costs", "costs.json"]
PRIOR = ["train_prior", "--needs", "needs.json", "--clean", "clean", "--out", "out", "--costs", "costs.json"]
TRAIN = ["train_restorer", "--degradation", "fog", "--objective", "objective.json", "--degraded", "clean"]
TRAIN += ["--clean", "clean", "--prior", "prior", "--tasks", "tasks", "--mixture", "none"]
TRAIN += ["--out", "out", "--costs", "costs.json"]
EVALUATE = ["evaluate", "--task", "segmentation", "--network", "network", "--degraded", "clean"]
EVALUATE += ["--restored", "restored", "--out", "out"]


NO_LOSS = {"x": {"kind": "x", "settings": {}}}
DIFFLOSS = {name: {"kind": name, "settings": {}} for name in ("pixel", "diffloss")}


def _objective(folder: Path, **changes: Any) -> None:
    content = {
        "objective": "pixel",
        "losses": {"pixel": {"kind": "pixel", "settings": {"kind": "l1"}}},
        "network": None,
        "mixture": {},
    } | changes
    (folder / "objective.json").write_text(json.dumps(content))


@pytest.fixture
def project(make_dataset: Callable[..., Dataset], tmp_path: Path) -> Path:
    """A folder with params.yaml and what the stages before would have written."""
    make_dataset()
    shutil.copyfile(ROOT / "params.tiny.yaml", tmp_path / "params.yaml")
    for name in ("pipeline", "models", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "trained").mkdir()
    save_restorer(tmp_path / "trained" / "restorer.safetensors", build_restorer("nafnet", NAFNET))
    (tmp_path / "needs.json").write_text('{"prior": true}')
    _objective(tmp_path)
    return tmp_path


@pytest.fixture
def run(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Runs a stage's main as `python -m` would, in this process; gives what it says when it fails."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.chdir(project)
    monkeypatch.setenv("DVC_ROOT", str(project))

    def stage(arguments: list[str]) -> str:
        module = importlib.import_module(f"pipeline.{arguments[0]}")
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as caught, warnings.catch_warnings():
            run_stage(module.main)
        return str(caught.value.code)

    yield stage
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _grown(folder: Path) -> None:
    path = folder / "clean/test/images/test0.png"
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(path)


FAULTS: list[tuple[str, Callable[[Path], Any], list[str], str]] = [
    ("no params.yaml", lambda f: (f / "params.yaml").unlink(), PREPARE, "params.yaml: cannot be read"),
    ("no room for scenes", lambda f: edit(f / "params.yaml", "width: 128", "width: 1"), PREPARE, "data.scenes.width: "),
    ("clean set gone", lambda f: shutil.rmtree(f / "clean"), DEGRADE, "clean/dataset.json: not a valid dataset.json"),
    (
        "clean image cut",
        lambda f: cut(f / "clean/train/images/train1.png"),
        DEGRADE,
        "train1.png: not a readable image",
    ),
    ("clean image too small", _grown, DEGRADE, "image: expected sides of 32 pixels or more"),
    ("recipe that is none", lambda f: None, [*DEGRADE[:2], "fogg", *DEGRADE[3:]], "no recipe 'fogg'"),
    ("restorer cut", lambda f: cut(f / "trained/restorer.safetensors"), RESTORE, "not a readable safetensors file"),
    (
        "degraded image cut",
        lambda f: cut(f / "clean/test/images/test1.png"),
        RESTORE,
        "test1.png: not a readable image",
    ),
    ("no restorer", lambda f: (f / "trained/restorer.safetensors").unlink(), RESTORE, "trained: no trained restorer"),
    ("needs of no bytes", lambda f: (f / "needs.json").write_text(""), PRIOR, "needs.json: damaged or missing"),
    ("needs of another version", lambda f: (f / "needs.json").write_text("{}"), PRIOR, "it has no 'prior'"),
    (
        "objective of no bytes",
        lambda f: (f / "objective.json").write_text(""),
        TRAIN,
        "objective.json: damaged or missing",
    ),
    (
        "objective that is none",
        lambda f: _objective(f, losses={"x": {"kind": "x", "settings": {}}}),
        TRAIN,
        "loss 'x' is unknown",
    ),
    ("degraded set gone", lambda f: None, [*TRAIN[:6], "nowhere", *TRAIN[7:]], "nowhere/dataset.json"),
    ("no prior", lambda f: _objective(f, losses=DIFFLOSS), TRAIN, "prior: no unet found"),
    ("no network", lambda f: None, EVALUATE, "network/task.json: not the description of a saved task network"),
]


@pytest.mark.parametrize(
    ("change", "arguments", "message"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS]
)
def test_a_stage_says_in_one_line_what_is_wrong(
    project: Path, run: Callable[..., str], change: Callable[[Path], Any], arguments: list[str], message: str
) -> None:
    change(project)
    line = run(arguments)
    assert line.startswith("error: ") and message in line and "\n" not in line
    assert not (project / "out").exists() and not (project / "costs.json").exists()


def test_a_stage_of_its_own_process_ends_without_a_traceback(project: Path) -> None:
    cut(project / "trained" / "restorer.safetensors")
    own = {**os.environ, "PYTHONPATH": "", "DVC_ROOT": str(project)}
    command = [sys.executable, "-m", f"pipeline.{RESTORE[0]}", *RESTORE[1:]]
    done = subprocess.run(command, cwd=project, env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: trained/restorer.safetensors: not a readable")


def test_a_mistake_in_the_code_keeps_its_traceback(run: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        run_stage(lambda: print(1 // 0))
