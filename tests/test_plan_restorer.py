"""What the plan finds out about the restorer: bad files at once, and a training anew where its code or file changed."""

import shutil
from pathlib import Path

import pytest
import torch

from models.restorers import RESTORERS, build_restorer, save_restorer
from pipeline.plan import describe_restorer
from pipeline.settings.params import ParamsError
from pipeline.settings.training import Checkpoint, NafNet, TrainRestorer, UNet

ROOT = Path(__file__).parents[1]
NAFNET = {"width": 8, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the restorers' code as the working folder."""
    for name in ("models", "weights"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _settings(restorer: str, weights: str | None = None) -> TrainRestorer:
    return TrainRestorer(
        restorer=restorer,  # type: ignore[arg-type]
        unet=UNet(channels=[4, 4, 4, 4], blocks=1),
        nafnet=NafNet(**NAFNET),  # type: ignore[arg-type]
        checkpoint=Checkpoint(weights=weights),
        crop=16,
        steps=1,
        batch=1,
        learning_rate=1e-3,
    )


def _weights(path: Path, seed: int) -> str:
    torch.manual_seed(seed)
    restorer = build_restorer("nafnet", NAFNET)
    if path.suffix == ".safetensors":
        save_restorer(path, restorer)
    else:
        torch.save(restorer.network.state_dict(), path)
    return str(path)


def _changed_by(project: Path, settings: TrainRestorer) -> set[str]:
    """The modules whose edit changes what the plan writes."""
    before, found = describe_restorer(settings, project / "weights"), set()
    for path in sorted((project / "models" / "restorers").glob("*.py")):
        text = path.read_text()
        path.write_text(text + "# changed\n")
        if describe_restorer(settings, project / "weights") != before:
            found.add(path.stem)
        path.write_text(text)
    return found


def test_only_the_code_of_the_chosen_restorer_counts(project: Path) -> None:
    common = {"__init__", "checkpoint", "contract", "tiling"}
    assert _changed_by(project, _settings("unet")) == common | {"unet"}
    assert _changed_by(project, _settings("nafnet")) == common | {"nafnet"}
    ours, theirs = (_weights(project / "weights" / name, 0) for name in ("ours.safetensors", "theirs.pth"))
    assert _changed_by(project, _settings("checkpoint", ours)) == common | {"nafnet"}
    assert _changed_by(project, _settings("checkpoint", theirs)) == common
    others = common | {"onnx_file"}  # which no stage runs
    assert len(RESTORERS) == len(list((project / "models" / "restorers").glob("*.py"))) - len(others)


def test_the_content_of_the_file_counts(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inside, outside = (Path(_weights(project / place, 0)) for place in ("weights/a.pth", "a.pth"))
    before = describe_restorer(_settings("checkpoint", str(inside)), project / "weights")
    assert not capsys.readouterr().out
    _weights(inside, 1)
    assert describe_restorer(_settings("checkpoint", str(inside)), project / "weights") != before
    describe_restorer(_settings("checkpoint", str(outside)), project / "weights")
    assert "train_restorer.checkpoint.weights" in capsys.readouterr().out


def test_a_file_that_cannot_be_used_stops_the_plan(project: Path) -> None:
    (project / "weights" / "broken.pth").write_bytes(b"nonsense")
    for name, message in (("broken.pth", "not readable as weights alone"), ("no.pth", "no such restorer checkpoint")):
        with pytest.raises(ParamsError) as caught:
            describe_restorer(_settings("checkpoint", str(project / "weights" / name)), project / "weights")
        assert "params.yaml: train_restorer.checkpoint.weights: " in str(caught.value)
        assert message in str(caught.value) and "\n" not in str(caught.value)
