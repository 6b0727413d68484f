"""A restorer from a file: used as it is, or as the start of a training."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from data import images
from data.batches import PairBatches
from data.dataset import Dataset
from models.losses import build_objective
from models.restorers import RestorerError, build_restorer, load_restorer, save_restorer
from models.restorers.contract import restore_tiled
from pipeline import train_restorer
from pipeline.running.restoring import restore_split
from pipeline.settings.training import Restore, TrainRestorer
from pipeline.training import restorers
from pipeline.training.loop import Loop

ROOT = Path(__file__).parents[1]
NAFNET = {"width": 8, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]}


def _weights(path: Path, std: float = 0.1) -> Path:
    """A restorer that is no longer at its start."""
    torch.manual_seed(5)
    restorer = build_restorer("nafnet", NAFNET)
    for parameter in restorer.parameters():
        torch.nn.init.normal_(parameter, std=std)
    if path.suffix == ".safetensors":
        save_restorer(path, restorer)
    else:
        torch.save({"params": restorer.network.state_dict()}, path)
    return path


@pytest.mark.parametrize("name", ["ours.safetensors", "theirs.pth"])
def test_training_starts_from_the_file(make_dataset: Callable[..., Dataset], tmp_path: Path, name: str) -> None:
    file = _weights(tmp_path / name)
    settings = TrainRestorer(
        restorer="checkpoint",
        checkpoint={"weights": str(file)},
        crop=16,
        steps=3,
        batch=2,
        learning_rate=1e-3,
    )
    split = make_dataset().split("train")
    batches = PairBatches(split, split, 16, 2, 0)
    loop = Loop(name, tmp_path / "work", 0, torch.device("cpu"))
    trained = restorers.train_restorer(batches, build_objective({"pixel": ("pixel", {})}), settings, loop)
    start, (degraded, clean) = load_restorer(file), batches(0)
    expected = (start.train()(degraded) - clean).abs().mean().item()
    assert loop.curve[1]["loss"] == pytest.approx(expected, rel=1e-5)
    before, after = start.state_dict(), trained.state_dict()
    assert all(not torch.equal(before[key], after[key]) for key in before)
    save_restorer(tmp_path / "trained.safetensors", trained)
    assert torch.equal(load_restorer(tmp_path / "trained.safetensors")(degraded), trained(degraded))


def _run_stage(folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, restorer: str = "checkpoint") -> None:
    text = (ROOT / "params.tiny.yaml").read_text()
    for old, new in (
        ("restorer: nafnet", f"restorer: {restorer}"),
        ("checkpoint: {weights: null}", f"checkpoint: {{weights: {weights}}}"),
        ("objectives: [pixel, diffloss]", "objectives: [frozen, pixel]"),
        ("repeats: 1", "repeats: 3"),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    (folder / "params.yaml").write_text(text)
    about = {"objective": "frozen", "losses": {}, "mixture": {}, "code": "0123"}
    (folder / "frozen.json").write_text(json.dumps(about))
    options = {"degradation": "fog", "objective": "frozen.json", "out": "out", "costs": "costs.json"}
    options |= dict.fromkeys(("degraded", "clean", "prior", "tasks", "mixture"), "nowhere")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["stage", *(word for key in options for word in (f"--{key}", options[key]))])
    train_restorer.main()


@pytest.mark.parametrize("restorer", ["checkpoint", "nafnet"])
def test_frozen_is_the_file_itself(restorer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _weights(tmp_path / "theirs.pth")
    _run_stage(tmp_path, file, monkeypatch, restorer)
    assert (tmp_path / "out" / "code.txt").read_text() == "0123\n"  # restoring depends on it
    some = torch.rand(1, 3, 20, 30)
    assert torch.equal(load_restorer("out/restorer.safetensors")(some), load_restorer(file)(some))
    assert (tmp_path / "out" / "curve.csv").read_text() == "step\n"
    assert len(list((tmp_path / "out").glob("*.safetensors"))) == 1  # whatever `repeats` is: nothing is random in it
    costs: dict[str, Any] = json.loads((tmp_path / "costs.json").read_text())
    assert costs["training_seconds"] == 0 and costs["parameters"] > 1000


def test_a_file_that_is_not_there_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RestorerError, match=r"missing\.pth: no such restorer checkpoint"):
        _run_stage(tmp_path, tmp_path / "missing.pth", monkeypatch)
    assert not (tmp_path / "out").exists() and not (tmp_path / "costs.json").exists()


def test_the_stage_restore_takes_tiles(make_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    split = make_dataset(size=(70, 150), test=1, train=1).split("test")
    restorer = load_restorer(_weights(tmp_path / "ours.safetensors", std=0.4))  # far from its start, tiles differ
    batch, expected = images.to_tensor(split.image("test0"))[None], []
    for tile in (None, 48):
        folder = tmp_path / str(tile)
        folder.mkdir()
        assert len(restore_split(lambda: restorer, split, Restore(tile=tile, overlap=16), folder, "")) == 1
        with torch.inference_mode():
            expected.append((restorer(batch) if tile is None else restore_tiled(restorer, batch, tile, 16))[0])
        difference = images.read_image(folder / "test0.png").astype(int) - images.to_uint8(expected[-1])
        assert difference.shape == (70, 150, 3) and abs(difference).max() <= 1
    assert (expected[0] - expected[1]).abs().max() > 0.1  # NAFNet looks at the whole image, or at the whole tile
