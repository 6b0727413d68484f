"""A restorer as a file for elsewhere, with its card."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import finished_run
import numpy as np
import pytest
import torch

from data.dataset import Dataset
from models.restorers import load_restorer
from models.restorers.contract import Restorer
from models.restorers.onnx_file import export_onnx, load_onnx
from pipeline.commands import deploy
from pipeline.commands.completed_runs import CompletedRunError
from pipeline.commands.deploy import ParityError, check_parity
from pipeline.running.atomic_outputs import OutputError
from pipeline.settings.params import ParamsError

WEIGHTS = Path("artifacts/restorers/fog/pixel/restorer.safetensors")
OUT = Path("deployed/fog-pixel")


Exporter = Callable[[Restorer, Path], None]


@pytest.fixture(scope="module")
def export_once(tmp_path_factory: pytest.TempPathFactory) -> Exporter:
    """Exports the first restorer that it gets, and writes that file again for the others: all are the same here."""
    file = tmp_path_factory.mktemp("exported") / deploy.ONNX

    def export(restorer: Restorer, path: Path) -> None:
        if not file.exists():
            export_onnx(restorer, file)
        shutil.copyfile(file, path)

    return export


@pytest.fixture
def run(
    finished_run_folder: Path, export_once: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, bytes]]:
    """Runs the command in a finished run; returns what it wrote."""
    shutil.copytree(finished_run_folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(deploy, "export_onnx", export_once)

    def do(*words: str) -> dict[str, bytes]:
        given = ["deploy", "--degradation", "fog", "--objective", "pixel", *words]
        monkeypatch.setattr(sys, "argv", given)
        deploy.main()
        return {path.name: path.read_bytes() for path in OUT.iterdir()}

    return do


def test_a_file_a_card_and_what_was_measured(
    run: Callable[..., dict[str, bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    found = run()
    assert set(found) == {deploy.ONNX, deploy.CARD, deploy.MEASURED}
    restorer, exported = load_restorer(WEIGHTS), load_onnx(OUT / deploy.ONNX)
    images = torch.rand(2, 3, 51, 38)
    with torch.inference_mode():
        torch.testing.assert_close(exported.network(images), restorer(images), atol=1e-5, rtol=0)
    card = found[deploy.CARD].decode()
    digests = [hashlib.sha256(content).hexdigest() for content in (found[deploy.ONNX], WEIGHTS.read_bytes())]
    for text in (
        "# Restorer `pixel` for `fog`",
        *digests,
        "| segmentation | mIoU   | pixel      | 0.5125",
        "0.5025 to 0.5225",
        "| +0.2625 | +0.2000 to +0.3000 | 0.010    | helps   |",
        "Add `clean-restored-pixel` to `arms`",
        "random weights",
        "seed 0, training 1 of 1",
        "Nobody has stated a licence",
        "up to multiples of 4 pixels",
    ):
        assert text in card, text
    assert "0.6789" not in card and "0.4289" not in card  # which are another restorer's
    measured = json.loads(found[deploy.MEASURED])
    assert max(one["difference"] for one in measured["parity"]) < 1e-5
    assert len({(one["height"], one["width"]) for one in measured["parity"]}) >= 4
    assert measured["latency"]["torch_milliseconds"] > 0 and measured["latency"]["onnx_milliseconds"] > 0
    assert "differs from PyTorch by" in capsys.readouterr().out
    finished_run.add_harm(Path("artifacts/report"))
    again = run("--licence", "CC-BY-4.0")
    assert "CC-BY-4.0" in again[deploy.CARD].decode() and "-0.0321" in again[deploy.CARD].decode()


def test_scores_must_be_of_these_weights(run: Callable[..., dict[str, bytes]]) -> None:
    finished_run.add_lock(Path(), **{"train_restorer.batch": 77})
    with pytest.raises(CompletedRunError, match=r"params.yaml: train_restorer.batch is \d+, .* trained with 77. Run"):
        run()
    Path("dvc.lock").unlink()
    finished_run.write_objective(Path(), steps=77)
    with pytest.raises(CompletedRunError, match=r"'pixel' has 4 steps, but this restorer was trained for 77\. Run"):
        run()
    finished_run.write_objective(Path(), losses={"pixel": {"kind": "l2"}})
    with pytest.raises(CompletedRunError, match=r"params.yaml: losses.pixel has changed since this"):
        run()
    finished_run.write_objective(Path())
    restorer = load_restorer(WEIGHTS)
    for parameter in restorer.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    deploy.images.write_image(
        Path("artifacts/restored/fog/pixel/test/test0.png"), np.full((*finished_run.SIZE, 3), 128, np.uint8)
    )
    with pytest.raises(CompletedRunError, match=r"test0.png: was not restored by the current weights"):
        run()
    assert not OUT.exists() and not Path("deployed").exists()


def test_what_is_missing_is_named(run: Callable[..., dict[str, bytes]], monkeypatch: pytest.MonkeyPatch) -> None:
    for words, kind, said in (
        (
            ("--degradation", "rain"),
            ParamsError,
            "--degradation: 'rain' is not in params.yaml. Choose one of lowlight, fog",
        ),
        (("--objective", "l1"), ParamsError, "--objective: 'l1' is not in params.yaml. Choose one of pixel, diffloss"),
        (("--objective", "diffloss"), CompletedRunError, "restorers/fog/diffloss: does not exist. Run `uv run dvc"),
        (("--training", "2"), CompletedRunError, "--training: 2, but train_restorer.repeats was 1"),
    ):
        with pytest.raises(kind, match=said):
            run(*words)
    OUT.mkdir(parents=True)
    (OUT / "mine.txt").write_text("keep")
    with pytest.raises(OutputError, match=r"has other files in it, and no MODEL_CARD.md"):
        run()
    assert [path.name for path in Path("deployed").rglob("*")] == ["fog-pixel", "mine.txt"]
    (OUT / "mine.txt").unlink()
    Path("artifacts/report/results.csv").write_text("task,degradation,variant,metric,value,ci_low,ci_high,n_images\n")
    monkeypatch.setattr("pipeline.commands.deploy.export_onnx", None)  # that takes seconds: the report is read first
    with pytest.raises(CompletedRunError, match=r"results.csv: has no row of pixel on fog"):
        run()
    assert not list(OUT.iterdir()) and len(list(Path("deployed").iterdir())) == 1


class _Off(torch.nn.Module):
    """A graph that is right at one size alone."""

    def __init__(self, restorer: Restorer, size: tuple[int, int], by: float) -> None:
        super().__init__()
        self.restorer, self.size, self.by = restorer, size, by

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        restored: torch.Tensor = self.restorer(images)
        return restored if images.shape[-2:] == self.size else restored + self.by


@pytest.mark.parametrize("by", [2e-4, float("nan")])
def test_a_file_that_is_right_at_one_size_alone_is_refused(run: Callable[..., object], by: float) -> None:
    restorer = load_restorer(WEIGHTS)
    split = Dataset.open(Path("artifacts/degraded/fog")).split("test")
    wrong = Restorer(_Off(restorer, finished_run.SIZE, by), "unet", {}, 8)
    with pytest.raises(ParityError, match=r"differs from PyTorch by .* on images of 31x21 pixels"):
        check_parity(restorer, wrong, split)
    right = Restorer(_Off(restorer, finished_run.SIZE, 0), "unet", {}, 8)
    assert len(check_parity(restorer, right, split)) == 8
