"""A training that is killed and goes on must end as if nothing had happened."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.running.digests import checkpoint_folder, fingerprint
from pipeline.training.loop import Loop

ROOT = Path(__file__).parents[1]


class Killed(BaseException):
    """Stands for a kill between two steps."""


def _train(work: Path, steps: int, kill_at: int | None = None) -> tuple[dict[str, Any], Loop]:
    loop = Loop("test", work, seed=3, device=torch.device("cpu"))
    torch.manual_seed(loop.seed)
    network = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in loop.steps(steps, {"network": network, "optimizer": optimizer, "schedule": schedule}):
        if step == kill_at:
            raise Killed
        generator = torch.Generator().manual_seed(step)
        loss = (network(torch.randn(8, 4, generator=generator)) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        loop.log(step + 1, loss=loss.item())
    return network.state_dict(), loop


def test_a_killed_training_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.training.loop.CHECKPOINT_SECONDS", 0.0)
    whole, whole_loop = _train(tmp_path / "whole", 12)
    with pytest.raises(Killed):
        _train(tmp_path / "killed", 12, kill_at=7)
    resumed, loop = _train(tmp_path / "killed", 12)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert loop.curve == whole_loop.curve
    assert loop.steps_run == 12


def test_it_resumes_and_does_not_start_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.training.loop.CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(Killed):
        _train(tmp_path, 12, kill_at=7)
    loop = Loop("test", tmp_path, 3, torch.device("cpu"))
    network = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)
    assert next(loop.steps(12, {"network": network, "optimizer": optimizer, "schedule": schedule})) == 7


def test_finish_forgets_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.training.loop.CHECKPOINT_SECONDS", 0.0)
    _, loop = _train(tmp_path, 3)
    assert (tmp_path / "checkpoint.pt").exists()
    loop.finish()
    assert not (tmp_path / "checkpoint.pt").exists()


def test_the_checkpoint_folder_depends_on_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("1")
    before = fingerprint(tmp_path)
    (tmp_path / "a").write_text("12")
    assert fingerprint(tmp_path) != before
    monkeypatch.chdir(ROOT)
    stage = ["pipeline.train_prior"]
    assert checkpoint_folder(stage, {"steps": 1}, before) != checkpoint_folder(stage, {"steps": 2}, before)
    assert checkpoint_folder(stage, {"steps": 1}, before) == checkpoint_folder(stage, {"steps": 1}, before)
    assert checkpoint_folder(["pipeline.train_restorer"], {"steps": 1}, before) != checkpoint_folder(
        stage, {"steps": 1}, before
    )


def test_curve_and_costs_as_files(tmp_path: Path) -> None:
    _, loop = _train(tmp_path / "w", 3)
    loop.write_curve(tmp_path / "curve.csv")
    lines = (tmp_path / "curve.csv").read_text().splitlines()
    assert lines[0] == "step,loss" and [line.split(",")[0] for line in lines[1:]] == ["1", "2", "3"]
