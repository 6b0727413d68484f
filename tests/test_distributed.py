"""A training of two ranks against a training of one with the same batches, and what happens if a rank dies."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed_worker import OBJECTIVES, STEPS, everything

from data.dataset import Dataset
from pipeline.datasets.recipes import recipe_of
from pipeline.degrade import degrade_dataset
from pipeline.settings.data import Degrade
from pipeline.training.distributed import RankError, TrainingRank, training_rank

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")


def _start(processes: int, out: Path, data: Path, what: str = "", *launcher: str) -> subprocess.Popen[str]:
    out.mkdir(exist_ok=True)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    worker = ["distributed_worker", str(processes), str(out), str(data), what]
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", *launcher, *worker], env=environment, cwd=out, stderr=subprocess.PIPE, text=True
    )


def _run(processes: int, out: Path, data: Path, what: str = "") -> tuple[int, str]:
    """The exit code and stderr."""
    worker = _start(processes, out, data, what)
    said = worker.communicate()[1]
    return worker.returncode, said


def _results(out: Path) -> dict[str, Any]:
    results: dict[str, Any] = torch.load(out / "results.pt", weights_only=True)
    return results


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean and a degraded dataset; with three images to validate on, two processes have unequal parts."""
    from conftest import CLASSES, _sample

    from data.dataset import DatasetInfo, write_info
    from data.samples import write_sample

    folder, counts = tmp_path_factory.mktemp("data"), {"train": 5, "val": 3, "test": 1}
    for split, count in counts.items():
        for index in range(count):
            write_sample(folder / "clean", _sample(split, index, (32, 40)))
    write_info(folder / "clean", DatasetInfo("clean", CLASSES, counts, {"source": "test"}))
    section = Degrade(severity=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        degrade_dataset(Dataset.open(folder / "clean"), recipe_of(section, "lowlight"), section, 0, folder / "degraded")
    return folder


@pytest.fixture(scope="module")
def shared(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The results of two ranks, and their folder."""
    out = tmp_path_factory.mktemp("two") / "out"
    code, said = _run(2, out, data)
    assert code == 0, said
    return _results(out), out


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The results of one rank."""
    return everything(data, tmp_path_factory.mktemp("one"), TrainingRank(CPU))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradients_are_those_of_the_whole_batch(
    shared: tuple[dict[str, Any], Path], alone: dict[str, Any], objective: str
) -> None:
    ours, theirs = shared[0][f"gradients of {objective}"], alone[f"gradients of {objective}"]
    assert ours.keys() == theirs.keys() and max(float(one.abs().max()) for one in theirs.values()) > 1e-3
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_training_comes_to_the_same_curve_scores_and_weights(
    shared: tuple[dict[str, Any], Path], alone: dict[str, Any], objective: str
) -> None:
    ours, theirs = shared[0][objective], alone[objective]
    torch.testing.assert_close(ours["norms"], theirs["norms"], rtol=1e-4, atol=0)
    for step in range(1, STEPS + 1):
        assert ours["curve"][step] == pytest.approx(theirs["curve"][step], rel=1e-3, abs=1e-6), step
    assert "val_psnr" in ours["curve"][STEPS]
    for name, weight in theirs["weights"].items():
        torch.testing.assert_close(ours["weights"][name], weight, rtol=0, atol=1e-4)


def test_a_prior_comes_to_the_same_weights(shared: tuple[dict[str, Any], Path], alone: dict[str, Any]) -> None:
    ours, theirs = shared[0]["prior"], alone["prior"]
    for step, values in theirs["curve"].items():
        assert ours["curve"][step] == pytest.approx(values, rel=1e-4)
    for name, weight in theirs["weights"].items():
        torch.testing.assert_close(ours["weights"][name], weight, rtol=0, atol=1e-3)


def test_one_rank_writes(shared: tuple[dict[str, Any], Path]) -> None:
    out = shared[1]
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {file for file in files if not file.startswith(".cache")} == {
        "results.pt",
        *(f"work/{name}/checkpoint.pt" for name in (*OBJECTIVES, "prior")),
    }


@pytest.mark.slow
def test_a_dead_rank_ends_the_others_and_the_training_resumes_later(
    shared: tuple[dict[str, Any], Path], data: Path, tmp_path: Path
) -> None:
    code, said = _run(2, tmp_path / "out", data, "die")
    assert code == 1 and not (tmp_path / "out" / "results.pt").exists()
    last = said.strip().splitlines()[-1]
    assert last.startswith("error: rank 1 of the 2 ranks 0 to 1 was killed by SIGKILL; the others were ended. ")
    assert "Traceback" not in said
    code, said = _run(2, tmp_path / "out", data, "die")
    assert code == 0, said
    resumed, whole = _results(tmp_path / "out")["pixel"], shared[0]["pixel"]
    assert resumed["curve"] == whole["curve"]
    assert all(torch.equal(resumed["weights"][name], weight) for name, weight in whole["weights"].items())


@pytest.mark.slow
def test_a_fault_of_one_rank_is_one_line(data: Path, tmp_path: Path) -> None:
    code, said = _run(2, tmp_path / "out", data, "fail")
    assert code == 1 and "Traceback" not in said
    last = said.strip().splitlines()[-1]
    assert last == "error: step 5: a fault that only one process has (rank 1 of the 2 ranks 0 to 1)"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_ends_all_ranks_with_a_checkpoint(data: Path, tmp_path: Path, number: signal.Signals) -> None:
    """What the launcher gets; SIGKILL gives it no time to tell the ranks."""
    launcher = _start(2, tmp_path / "out", data, "wait")
    files = [tmp_path / "out" / f"{index}.pid" for index in range(2)]
    _soon(lambda: all(file.exists() and file.read_text() for file in files))
    launcher.send_signal(number)
    said = launcher.communicate(timeout=60)[1].strip().splitlines()
    assert launcher.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGKILL: -9}[number], said
    assert number != signal.SIGINT or said[-1].startswith("interrupted: ")
    assert not [line for line in said if "Traceback" in line], said
    _soon(lambda: not any(Path(f"/proc/{file.read_text()}").exists() for file in files))
    step = torch.load(tmp_path / "out" / "work" / "pixel" / "checkpoint.pt", weights_only=True)["step"]
    assert 0 < step < STEPS


def _soon(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("not within a minute")


@pytest.mark.slow
def test_torchrun_starts_the_ranks_of_a_stage(data: Path, tmp_path: Path) -> None:
    """As on several machines, where each runs torchrun on the stage's command."""
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    failed = _start(1, tmp_path / "out", data, "fail", *torchrun)
    said = failed.communicate(timeout=120)[1]
    assert failed.returncode == 1 and "RankError: step 5: a fault that only one process has" in said


def test_a_batch_that_cannot_be_shared_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with (
        pytest.raises(RankError, match=r"^train_prior\.batch: 6 is no multiple of the 4 processes\. Choose a multiple"),
        training_rank(train_prior=6),
    ):
        pass


def test_more_processes_than_gpus_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(RankError, match=r"^processes: more than the 1 GPUs of this machine"), training_rank(x=2):
        pass


def test_one_process_needs_no_accelerate() -> None:
    code = (
        "import sys; from pipeline import train_restorer, train_prior; from pipeline.training import distributed\n"
        "with distributed.training_rank(x=1): pass\n"
        "assert not distributed.launch_ranks('x', 1) and 'accelerate' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
