"""The claims that a comparison of objectives rests on: a gradient that arrives, and nothing else that differs."""

import json
import shutil
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from data.batches import PairBatches
from data.dataset import Dataset
from models.diffusion.prior import DiffusionPrior
from models.diffusion.unet import build_scheduler, build_unet
from models.losses import build_objective
from models.tasks.segmentation import Segmentation
from pipeline import train_restorer as stage
from pipeline.objective import describe
from pipeline.running import digests
from pipeline.settings.grammar import objective_losses
from pipeline.settings.params import load_params
from pipeline.settings.training import TrainRestorer
from pipeline.training import restorers
from pipeline.training.distributed import TrainingRank
from pipeline.training.loop import Loop
from pipeline.training.optimisation import TrainingError
from pipeline.training.restorers import train_restorer

ROOT = Path(__file__).parents[1]

SETTINGS = TrainRestorer.model_validate(
    {
        "restorer": "nafnet",
        "nafnet": {"width": 8, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]},
        "crop": 16,
        "steps": 6,
        "batch": 2,
        "learning_rate": 1e-3,
    }
)
DIFFLOSS = {"diffloss": {"strength": 1.0, "timesteps": [5, 300]}}


@pytest.fixture(scope="module")
def prior() -> DiffusionPrior:
    torch.manual_seed(0)
    unet = build_unet({"size": 16, "channels": [16, 32], "blocks": 1, "attention": []})
    return DiffusionPrior(unet, build_scheduler({"steps": 1000, "kind": "linear"}))


class _Spy:
    """Batches that remember what they gave."""

    def __init__(self, batches: PairBatches) -> None:
        self.batches = batches
        self.seen: list[torch.Tensor] = []

    def __call__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        degraded, clean = self.batches(step)
        self.seen.append(clean)
        return degraded * 0.3, clean

    def ids(self, step: int) -> list[str]:
        return self.batches.ids(step)


@pytest.fixture
def train(make_dataset: Callable[..., Dataset], tmp_path: Path, prior: DiffusionPrior) -> Callable[..., Any]:
    split = make_dataset().split("train")

    def do(name: str, run: str = "a", settings: TrainRestorer = SETTINGS, **losses: Any) -> Any:
        batches = _Spy(PairBatches(split, split, 16, 2, 0))
        loop = Loop(name, tmp_path / run, 0, torch.device("cpu"))
        objective = build_objective(objective_losses(name, losses), prior_folder=prior)
        restorer = train_restorer(batches, objective, settings, loop)
        return restorer.state_dict(), batches.seen, loop

    return do


def test_objectives_start_equal_and_see_the_same_crops(train: Callable[..., Any]) -> None:
    pixel, diffloss = train("pixel", "a"), train("diffloss", "b", **DIFFLOSS)
    assert all(torch.equal(*pair) for pair in zip(pixel[1], diffloss[1], strict=True))
    # At the first step both restorers are the same, so that their pixel losses are.
    assert pixel[2].curve[1]["pixel"] == diffloss[2].curve[1]["pixel"]


def test_diffloss_changes_what_is_learned(train: Callable[..., Any]) -> None:
    pixel, diffloss = train("pixel", "a")[0], train("diffloss", "b", **DIFFLOSS)[0]
    assert any(not torch.equal(pixel[name], diffloss[name]) for name in pixel)
    weak = train("diffloss", "c", diffloss={"strength": 0.0})[0]
    assert all(torch.allclose(pixel[name], weak[name], atol=1e-6) for name in pixel)


def test_the_prior_is_left_as_it_was(train: Callable[..., Any], prior: DiffusionPrior) -> None:
    before = {name: value.clone() for name, value in prior.state_dict().items()}
    train("diffloss", **DIFFLOSS)
    assert all(torch.equal(value, before[name]) for name, value in prior.state_dict().items())
    assert all(parameter.grad is None for parameter in prior.parameters())


def test_a_kill_changes_nothing(train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = train("diffloss", "whole", **DIFFLOSS)[0]
    monkeypatch.setattr("pipeline.training.loop.CHECKPOINT_SECONDS", 0.0)

    def dies(loop: Loop, step: int, **values: float) -> None:
        if step == 4 and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            raise KeyboardInterrupt

    monkeypatch.setattr(Loop, "log", dies)
    with pytest.raises(KeyboardInterrupt):
        train("diffloss", "killed", **DIFFLOSS)
    resumed, seen, _ = train("diffloss", "killed", **DIFFLOSS)
    assert len(seen) == 3  # steps 3, 4, 5: it went on, it did not start again
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_stage_trains_for_the_objectives_own_steps_with_the_share_of_clean_pairs(
    make_dataset: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = load_params(ROOT / "params.tiny.yaml")
    restorer = params.train_restorer.model_copy(update={"steps": 5, "steps_of": {"pixel": 3}, "clean_share": 0.5})
    params = params.model_copy(update={"train_restorer": restorer})
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(digests, "WORK", tmp_path / "work")
    shares: list[float] = []
    monkeypatch.setattr(restorers, "PairBatches", lambda *given: shares.append(given[-2]) or PairBatches(*given))
    data = str(make_dataset("clean", (48, 48), train=2).folder)
    options = Namespace(degradation="fog", degraded=data, clean=data, prior="", tasks="")
    description = {"objective": "pixel", "losses": {"pixel": {"kind": "pixel", "settings": {}}}, "network": None}
    _, loop = stage._training(options, params, description).run(2, TrainingRank(torch.device("cpu")))
    assert loop.steps_run == 3 and shares == [0.5]


def test_the_stage_with_the_loss_of_a_task_network(
    finished_run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished_run_folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    params, artifacts = load_params(), Path("artifacts")
    params = params.model_copy(update={"losses": {"recognition": {"network": "segmentation"}}})
    monkeypatch.setattr(stage, "load_params", lambda: params)
    labelled: list[int] = []
    monkeypatch.setattr(PairBatches, "labelled", lambda self, step: labelled.append(step) or _LABELLED(self, step))
    networks: list[Any] = []
    monkeypatch.setattr(Segmentation, "__init__", _remembering(networks))
    for name in ("pixel", "recognition"):
        for path in (Path("code/objectives") / name, Path("code/tasks/segmentation")):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("0123\n")
        description = describe(name, params, Path("prior"), artifacts / "tasks", Path("code"), artifacts / "degraded")
        objective = artifacts / "objectives" / f"{name}.json"
        objective.write_text(json.dumps(description))
        words = f"--degradation fog --objective {objective} --degraded artifacts/degraded/fog --clean artifacts/clean "
        words += f"--prior prior --tasks artifacts/tasks --mixture none --out out/{name} --costs out/{name}.json"
        monkeypatch.setattr("sys.argv", ["train_restorer", *words.split()])
        stage.main()
        assert labelled == ([] if name == "pixel" else [0, 1, 2, 3])  # labels are read only if they are needed
    header, *rows = Path("out/recognition/curve.csv").read_text().splitlines()
    assert {"recognition", "recognition_ratio"} <= set(header.split(",")) and len(rows) == 4
    pixel, recognition = (load_file(f"out/{name}/restorer.safetensors") for name in ("pixel", "recognition"))
    assert any(not torch.equal(pixel[name], recognition[name]) for name in pixel)
    saved = load_file(artifacts / "tasks" / "segmentation" / "weights.safetensors")
    (network,) = networks
    assert all(torch.equal(value, saved[name]) for name, value in network.state_dict().items())


_LABELLED = PairBatches.labelled


def _remembering(networks: list[Any]) -> Callable[..., None]:
    """A constructor of task networks that remembers them."""
    initialise = Segmentation.__init__

    def do(self: Segmentation, network: torch.nn.Module, *arguments: Any) -> None:
        networks.append(network)
        initialise(self, network, *arguments)

    return do


def test_a_diverging_training_stops_with_a_reason(train: Callable[..., Any]) -> None:
    settings = SETTINGS.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(TrainingError, match=r"^step 1: the restorer's output is not finite.*images train\d, train\d\."):
        train("pixel", settings=settings)
