"""A training of two ranks against a training of one with the same batches, and what happens if a rank dies."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed_worker import OBJECTIVES, STEPS, everything

from data.dataset import Dataset
from pipeline.datasets.degrading import recipe_of
from pipeline.degrade import degrade_dataset
from pipeline.settings.degrade import Degrade
from pipeline.training.distributed import RankError, TrainingRank, training_rank

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")


def _run(processes: int, out: Path, data: Path, *what: str) -> subprocess.CompletedProcess[str]:
    out.mkdir(exist_ok=True)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    command = [sys.executable, "-m", "distributed_worker", str(processes), str(out), str(data), *what]
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, check=False, env=environment, cwd=out, capture_output=True, text=True)


def _found(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(out / "found.pt", weights_only=True)
    return found


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
    """What two processes come to, and where they worked."""
    out = tmp_path_factory.mktemp("two") / "out"
    done = _run(2, out, data)
    assert done.returncode == 0, done.stderr
    return _found(out), out


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process comes to."""
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


def test_one_process_writes(shared: tuple[dict[str, Any], Path]) -> None:
    out = shared[1]
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {file for file in files if not file.startswith(".cache")} == {
        "found.pt",
        *(f"work/{name}/checkpoint.pt" for name in (*OBJECTIVES, "prior")),
    }


@pytest.mark.slow
def test_a_dead_process_takes_the_others_with_it_and_the_training_goes_on_later(
    shared: tuple[dict[str, Any], Path], data: Path, tmp_path: Path
) -> None:
    died = _run(2, tmp_path / "out", data, "die")
    last = died.stderr.strip().splitlines()[-1]
    assert died.returncode == 1 and not (tmp_path / "out" / "found.pt").exists()
    assert last.startswith("error: rank 1 of the 2 ranks 0 to 1 was killed by SIGKILL; the others were ended. ")
    assert "Traceback" not in died.stderr
    again = _run(2, tmp_path / "out", data, "die")
    assert again.returncode == 0, again.stderr
    found, whole = _found(tmp_path / "out")["pixel"], shared[0]["pixel"]
    assert found["curve"] == whole["curve"]
    assert all(torch.equal(found["weights"][name], weight) for name, weight in whole["weights"].items())


@pytest.mark.slow
def test_a_fault_of_one_process_is_one_line(data: Path, tmp_path: Path) -> None:
    failed = _run(2, tmp_path / "out", data, "fail")
    assert failed.returncode == 1 and "Traceback" not in failed.stderr
    last = failed.stderr.strip().splitlines()[-1]
    assert last.startswith("error: step 5: a fault that only one process has (rank 1 of the 2 ranks 0 to 1)")


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
