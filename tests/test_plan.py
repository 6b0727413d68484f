"""The stage plan: mistakes that only the plug-ins know, and the files from elsewhere that tasks and restorer use."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from models.restorers import build_restorer, save_restorer
from pipeline import plan
from pipeline.plan import describe_restorer
from pipeline.settings.params import ParamsError, load_params
from pipeline.settings.training import TrainRestorer

ROOT = Path(__file__).parents[1]
NAFNET = {"width": 8, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]}
pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries behind the tasks


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with params.yaml, which chooses each task that has a section, and a folder for weights."""
    (tmp_path / "weights").mkdir()
    text = (ROOT / "params.tiny.yaml").read_text()
    tasks = load_params(ROOT / "params.tiny.yaml").train_task
    text = text.replace("tasks: [detection, segmentation]", f"tasks: [{', '.join(tasks)}]")
    (tmp_path / "params.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _edit(old: str, new: str) -> None:
    text = Path("params.yaml").read_text()
    assert old in text
    Path("params.yaml").write_text(text.replace(old, new, 1))


def _run(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, object]]:
    outs = "--needs out/n.json --checked out/c.json --tasks out/tasks --restorer out/r.json"
    monkeypatch.setattr("sys.argv", ["plan", *outs.split(), "--weights", "weights", "--dag", str(ROOT / "dvc.yaml")])
    plan.main()
    return {path.stem: json.loads(path.read_text()) for path in Path("out/tasks").iterdir()}


def test_weights_count_by_their_content(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({}, "weights/mine.pt")
    _edit("model: yolo11n.yaml, weights: null", "weights: weights/mine.pt, trust_pickle: true, frozen: true")
    before = _run(monkeypatch)
    assert list(before["detection"]["files"]) == ["weights/mine.pt"]  # type: ignore[call-overload]
    assert capsys.readouterr().out == ""
    torch.save({"other": 1}, "weights/mine.pt")
    after = _run(monkeypatch)
    assert {task for task in after if after[task] != before[task]} == {"detection"}
    shutil.move("weights/mine.pt", "mine.pt")
    _edit("weights: weights/mine.pt", "weights: mine.pt")
    _run(monkeypatch)
    assert "note: train_task.detection: mine.pt lies outside weights/" in capsys.readouterr().out


INSTANCES = "train_task.instance-segmentation"
MISTAKES = [
    ("model: yolo11n.yaml", "model: yolo11q.yaml", "train_task.detection.model: 'yolo11q.yaml': no such file"),
    ("encoder: tu-mobilenetv3", "encoder: tu-mobilnetv3", "encoder 'tu-mobilnetv3_small_050'"),
    ("{model: resnet10t", "{model: resnet9t", "train_task.classification.model: timm cannot build 'resnet9t'"),
    ("weights: null, image_size", "weights: gone.pt, image_size", "train_task.detection.weights: gone.pt: no such"),
    (
        "image_size: 128, epochs: 1, batch: 8",
        "image_size: 129, epochs: 1, batch: 8",
        "train_task.detection.image_size: Input should be a",
    ),
    ("-seg.yaml, weights: null", "-seg.yaml, weigths: null", f"{INSTANCES}.weigths: unknown key. Known keys: model"),
    ("  classification: {", "  clasification: {", "needs a section train_task.classification. Add it, or choose one"),
    ("train_task:\n", "train_task:\n  depth: {}\n", "train_task: 'depth' is unknown. Choose one of detection"),
]


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES, ids=[new for _, new, _ in MISTAKES])
def test_a_mistake_is_one_line_and_leaves_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, message: str
) -> None:
    _edit(old, new)
    with pytest.raises(ParamsError) as caught:
        _run(monkeypatch)
    assert message in str(caught.value) and str(caught.value).startswith("params.yaml: ")
    assert "\n" not in str(caught.value)
    assert not Path("out").exists()


def test_sections_are_as_they_stand_in_the_file(project: Path) -> None:
    _edit("  classification: {model: resnet10t", "  classification: {model: resnet18")
    assert load_params().task_settings("classification")["model"] == "resnet18"
    _edit("  classification:", "  other:")
    with pytest.raises(ParamsError, match=r"section train_task\.classification\. Add it, or choose one of .*other"):
        load_params().task_settings("classification")


def _settings(restorer: str, weights: str | None = None) -> TrainRestorer:
    sections = {"nafnet": NAFNET, "checkpoint": {"weights": weights}}
    numbers = {"crop": 16, "steps": 1, "batch": 1, "learning_rate": 1e-3}
    return TrainRestorer.model_validate({"restorer": restorer, **sections, **numbers})


def _weights(path: Path, seed: int) -> str:
    torch.manual_seed(seed)
    restorer = build_restorer("nafnet", NAFNET)
    if path.suffix == ".safetensors":
        save_restorer(path, restorer)
    else:
        torch.save(restorer.network.state_dict(), path)
    return str(path)


def test_the_content_of_a_checkpoint_counts(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inside, outside = (Path(_weights(project / place, 0)) for place in ("weights/a.pth", "a.pth"))
    before = describe_restorer(_settings("checkpoint", str(inside)), project / "weights")
    assert not capsys.readouterr().out
    _weights(inside, 1)
    assert describe_restorer(_settings("checkpoint", str(inside)), project / "weights") != before
    describe_restorer(_settings("checkpoint", str(outside)), project / "weights")
    assert "train_restorer.checkpoint.weights" in capsys.readouterr().out


def test_a_checkpoint_that_cannot_be_used_stops_the_plan(project: Path) -> None:
    (project / "weights" / "broken.pth").write_bytes(b"nonsense")
    for name, message in (("broken.pth", "not readable as weights alone"), ("no.pth", "no such restorer checkpoint")):
        with pytest.raises(ParamsError) as caught:
            describe_restorer(_settings("checkpoint", str(project / "weights" / name)), project / "weights")
        assert "params.yaml: train_restorer.checkpoint.weights: " in str(caught.value)
        assert message in str(caught.value) and "\n" not in str(caught.value)


def test_the_published_setting_needs_all_its_timesteps(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _edit("objectives: [pixel, diffloss]", "objectives: [pixel, paper]")
    _run(monkeypatch)
    _edit("schedule: {steps: 1000", "schedule: {steps: 500")
    with pytest.raises(
        ParamsError, match=r"losses\.paper\.timesteps: expected 0 <= low < high <= 500 .*got \[0, 1000\]"
    ):
        _run(monkeypatch)
