"""The stage plan: mistakes that only the plug-ins know, and the files from elsewhere that tasks and restorer use."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import torchvision

from models.diffusion.prior import DiffusionPrior
from models.diffusion.unet import build_scheduler, build_unet
from models.losses.diffusion_terms import Settings
from models.restorers import build_restorer, save_restorer
from pipeline import plan
from pipeline.datasets.importing import open_source
from pipeline.settings.params import ParamsError, load_params
from pipeline.settings.training import TrainRestorer
from pipeline.training.foreign_networks import describe_restorer

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
    outs = "--needs out/plan/n.json --checked out/c.json --tasks out/tasks --restorer out/r.json --quality out/q.json"
    monkeypatch.setattr("sys.argv", ["plan", *outs.split(), "--weights", "weights", "--dag", str(ROOT / "dvc.yaml")])
    plan.main()
    return {path.stem: json.loads(path.read_text()) for path in Path("out/tasks").iterdir()}


def test_weights_count_by_their_content(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _save_detector(Path("weights/mine.pt"), 0)
    _edit("model: yolo11n.yaml, weights: null", "weights: weights/mine.pt, trust_pickle: true, frozen: true")
    before = _run(monkeypatch)
    assert list(before["detection"]["files"]) == ["weights/mine.pt"]  # type: ignore[call-overload]
    assert capsys.readouterr().out == ""
    _save_detector(Path("weights/mine.pt"), 1)
    after = _run(monkeypatch)
    assert {task for task in after if after[task] != before[task]} == {"detection"}
    shutil.move("weights/mine.pt", "mine.pt")
    _edit("weights: weights/mine.pt", "weights: mine.pt")
    _run(monkeypatch)
    assert "note: train_task.detection: mine.pt lies outside weights/" in capsys.readouterr().out


def _save_detector(path: Path, seed: int, left_out: int = 0) -> None:
    """A network of random weights with the classes of the drawn scenes."""
    from models.tasks.yolo_library import parts

    torch.manual_seed(seed)
    params = load_params()
    classes = [*open_source(params.data, params.seed).classes["detection"], "another"][: -1 - left_out or None]
    network = parts("detect").model("yolo11n.yaml", nc=len(classes), verbose=False)
    network.names = dict(enumerate(classes))
    torch.save({"model": network, "train_args": {}}, path)


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("~/mine", "DVC does not expand ~ and variables. Write '{home}/mine'."),
        ("$HOME/mine", "DVC does not expand ~ and variables. Write '{home}/mine'."),
        (".", "this folder holds the project"),
        ("..", "this folder holds the project"),
        ("out/clean", "the stages write into out/. Put the data into another folder."),
    ],
)
def test_a_root_that_dvc_cannot_use_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch, root: str, message: str
) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    _edit("root: data/embedded", f"root: {root}")
    with pytest.raises(ParamsError, match=r"^params\.yaml: data\.root: ") as caught:
        _run(monkeypatch)
    assert message.format(home="/home/someone") in str(caught.value) and not Path("out").exists()


def test_other_paths_may_begin_with_the_home_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    _edit("checkpoint: {weights: null}", "checkpoint: {weights: ~/mine.pth}")
    assert load_params().train_restorer.sections["checkpoint"] == {"weights": "/home/someone/mine.pth"}


def test_a_frozen_network_must_know_the_classes_of_the_data(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _save_detector(Path("weights/mine.pt"), 0, left_out=1)
    _edit("model: yolo11n.yaml, weights: null", "weights: weights/mine.pt, trust_pickle: true, frozen: true")
    with pytest.raises(ParamsError, match=r"detection\.weights: the frozen network does not know '.*; the data have: "):
        _run(monkeypatch)
    _edit(", frozen: true", "")  # as a start of a training, any classes will do
    _run(monkeypatch)


def test_arms_train_a_copy_of_a_frozen_network(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _edit("tasks: [detection, instance-segmentation, segmentation, classification]", "tasks: [detection]")
    _edit("model: yolo11n.yaml, weights: null", "weights: weights/mine.pt, trust_pickle: true, frozen: true")
    _edit("arms: []", "arms: [degraded-retrained]")
    _save_detector(Path("weights/mine.pt"), 0)
    _run(monkeypatch)
    assert "frozen" not in load_params().retraining_settings("detection")
    _save_detector(Path("weights/mine.pt"), 0, left_out=-1)  # a class more than the data have
    with pytest.raises(ParamsError, match=r"detection\.weights: an arm trains this network, whose outputs are not"):
        _run(monkeypatch)


def test_the_files_of_objectives_are_tried(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _edit("checkpoint: {weights: null}", "checkpoint: {weights: weights/theirs.pth}")
    _edit("objectives: [pixel, diffloss]", "objectives: [pixel, lpips, frozen]")
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), "weights/squeeze.pth")
    _edit("  pixel: {kind: l1}", "  lpips: {backbone: squeeze, weights: weights/squeeze.pth}\n  pixel: {kind: l1}")
    with pytest.raises(ParamsError, match=r"checkpoint\.weights: weights/theirs\.pth: no such restorer checkpoint"):
        _run(monkeypatch)
    _weights(Path("weights/theirs.pth"), 0)
    _run(monkeypatch)
    assert json.loads(Path("out/r.json").read_text()) == {"restorer": "nafnet", "files": {}}
    assert list(json.loads(Path("out/q.json").read_text())["files"]) == ["weights/squeeze.pth"]
    _edit("backbone: squeeze", "backbone: alex")
    with pytest.raises(ParamsError, match=r"losses\.lpips: lpips: weights/squeeze\.pth: not the weights of"):
        _run(monkeypatch)
    _edit("backbone: alex, weights: weights/squeeze.pth", "backbone: alex, weights: none.pth")
    with pytest.raises(ParamsError, match=r"losses\.lpips: lpips: none\.pth: cannot be read"):
        _run(monkeypatch)
    _edit("objectives: [pixel, lpips, frozen]", "objectives: [pixel]")  # image quality is measured with it
    with pytest.raises(ParamsError, match=r"losses\.lpips: lpips: none\.pth: cannot be read"):
        _run(monkeypatch)


def test_the_prior_of_a_loss_is_tried(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unet = build_unet({"size": 16, "channels": [32, 64], "blocks": 1, "attention": []})
    DiffusionPrior(unet, build_scheduler({"steps": 10, "kind": "linear"})).save("weights/prior")
    _edit("diffloss: {strength", "diffloss: {prior: weights/prior, strength")
    with pytest.raises(ParamsError, match=r"losses\.diffloss: timestep range 5\.\.300: expected 0 <= low < high <= 10"):
        _run(monkeypatch)
    DiffusionPrior(unet, build_scheduler({"steps": 4000, "kind": "linear"})).save("weights/prior")
    _edit("timesteps: [5, 300]", "timesteps: [5, 1200]")  # more than train_prior.schedule.steps
    _run(monkeypatch)
    names = [path.name for path in Settings(prior="weights/prior").files]
    assert names == ["scheduler_config.json", "config.json", "diffusion_pytorch_model.safetensors"]


def test_a_pretrained_prior_is_tried(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _edit("pretrained: null", "pretrained: weights/prior")
    with pytest.raises(ParamsError, match=r"params\.yaml: train_prior\.pretrained: .*weights/prior"):
        _run(monkeypatch)
    unet = build_unet({"size": 16, "channels": [32, 64], "blocks": 1, "attention": []})
    DiffusionPrior(unet, build_scheduler({"steps": 10, "kind": "linear"})).save("weights/prior")
    with pytest.raises(ParamsError, match=r"losses\.diffloss: the timesteps \[5, 300\] do not fit .*, which has 10\."):
        _run(monkeypatch)
    DiffusionPrior(unet, build_scheduler({"steps": 1000, "kind": "linear"})).save("weights/prior")
    _run(monkeypatch)
    torch.nn.init.constant_(unet.conv_out.bias, float("nan"))  # type: ignore[arg-type]
    DiffusionPrior(unet, build_scheduler({"steps": 10, "kind": "linear"})).save("weights/prior")
    with pytest.raises(ParamsError, match=r"weights/prior: the predicted noise is not finite\. Choose another prior"):
        _run(monkeypatch)
    _edit("objectives: [pixel, diffloss]", "objectives: [pixel]")  # which needs no prior
    _run(monkeypatch)


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
    (
        "arms: []",
        "arms: [clean-retrained]",
        "arms: 'clean-retrained' repeats the stage train_task if retraining.start is",
    ),
    (
        "  train_task: {}",
        "  train_task: {segmentation: {epochs: 2}}",
        "retraining.train_task.segmentation.epochs: unknown key. Known keys: architecture",
    ),
    (
        "  train_task: {}",
        "  train_task: {segmantation: {steps: 2}}",
        "retraining.train_task: 'segmantation' is unknown. Choose one of detection",
    ),
    (
        "  train_task: {}",
        "  train_task: {detection: {weights: x.pt}}",
        "retraining.train_task.detection.weights: unknown",
    ),
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


def test_a_loss_that_needs_another_task_network_stops_the_plan(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before prior, task networks and degradations are made: the stage `objective` would find out after them."""
    _edit("objectives: [pixel, diffloss]", "objectives: [pixel, recognition]")
    _edit("  pixel: {kind: l1}", "  pixel: {kind: l1}\n  recognition: {network: classification}")
    with pytest.raises(ParamsError, match=r"losses\.recognition\.network: 'classification' has no training loss for"):
        _run(monkeypatch)
    _edit("network: classification", "network: depth")
    with pytest.raises(ParamsError, match=r"losses\.recognition\.network: 'depth' is not among the tasks\. Choose one"):
        _run(monkeypatch)
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


def test_a_severity_that_overrides_a_list_is_said(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _edit("severity_of: {}", "severity_of: {fog: 2}")
    plan.check_names(load_params())
    assert not capsys.readouterr().out
    _edit("severity: 3", "severity: [1, 3]")
    plan.check_names(load_params())
    assert capsys.readouterr().out == "note: degrade.severity_of.fog overrides the severities in degrade.severity.\n"


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
