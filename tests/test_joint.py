"""Joint arms: a restorer and a task network that learn alternately."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from data import images
from data.dataset import Dataset
from models.restorers import build_restorer, load_restorer, save_restorer
from models.tasks import get_task
from pipeline import arm, arm_images
from pipeline.plan import check_names
from pipeline.reporting.compared_pairs import compared_pairs
from pipeline.running.artifacts import ON_CLEAN_FOLDER, RECORDS_FILE
from pipeline.settings.grammar import Arm, arm_error, is_retrained, objective_of, parse_arm, variant_kind
from pipeline.settings.params import Params, ParamsError, load_params
from pipeline.training import joint
from pipeline.training.joint import mix_patches
from pipeline.training.loop import Loop

ROOT = Path(__file__).parents[1]
NAME = "pixel-joint"
SMALL = {"width": 4, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]}
SECTIONS = {
    "segmentation": {"steps": 4, "batch": 2, "crop": 64},
    "detection": {"epochs": 1, "batch": 2, "image_size": 64},
}


def _params(task: str = "segmentation", **changes: Any) -> Params:
    params = load_params(ROOT / "params.tiny.yaml")
    section = {**params.train_task[task], **SECTIONS[task]}
    together = params.retraining.joint.model_copy(update={"crop": 48, **changes})
    changed = {"retraining": params.retraining.model_copy(update={"joint": together}), "tasks": [task]}
    return params.model_copy(update={"train_task": {**params.train_task, task: section}, **changed})


class Project:
    """A folder with what the stages before `arm` leave behind; the degraded images are dark."""

    def __init__(self, make_dataset: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.clean, degraded = (make_dataset(name, (64, 64), train=6, test=2) for name in ("clean", "degraded"))
        for path in degraded.folder.glob("*/images/*.png"):
            images.write_image(path, images.read_image(path) // 3)
        torch.manual_seed(0)
        Path("restorers/pixel").mkdir(parents=True)
        save_restorer(Path("restorers/pixel/restorer.safetensors"), build_restorer("nafnet", SMALL).eval())
        Path("objectives").mkdir()
        losses = {"pixel": {"kind": "pixel", "settings": {"kind": "l1"}}}
        Path("objectives/pixel.json").write_text(json.dumps({"objective": "pixel", "losses": losses, "prior": None}))
        Path("plan.json").write_text("{}")

    def train_task(self, task: str) -> None:
        params, split = _params(task), self.clean.split("train")
        loop = Loop("train", Path("work"), 0, torch.device("cpu"))
        from functools import partial

        from data.batches import MaskBatches

        classes = self.clean.info.classes[task]
        network = get_task(task).fit(split, partial(MaskBatches, split, 0), classes, params.task_settings(task), loop)
        Path("network").mkdir()
        network.save(Path("network"))

    def describe(self) -> dict[str, Any]:
        """Run the stage arm_images; returns what it writes about the start of the arm."""
        self._run(arm_images, _params(), clean="clean", degraded="degraded", restorers="restorers", out="images")
        content: dict[str, Any] = json.loads(Path("images/joint.json").read_text())
        return content

    def run(self, params: Params, out: str) -> None:
        """Run the stage arm."""
        folders = {"images": "images", "network": "network", "clean": "clean", "degraded": "degraded"}
        folders |= {"restorers": "restorers", "prior": "none", "plan": "plan.json", "degradation": "dark"}
        self._run(arm, params, task=params.tasks[0], **folders, out=out, costs=f"{out}.json")

    def _run(self, stage: Any, params: Params, **options: str) -> None:
        self.monkeypatch.setattr(stage, "load_params", lambda: params)
        options |= {"arm": NAME} | ({"objectives": "objectives"} if stage is arm_images else {})
        self.monkeypatch.setattr("sys.argv", ["stage", *(w for name in options for w in (f"--{name}", options[name]))])
        stage.main()


@pytest.fixture
def project(make_dataset: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project(make_dataset, monkeypatch)


def test_names() -> None:
    assert parse_arm(NAME) == Arm(NAME, "pixel", True, True) and is_retrained(NAME)
    assert objective_of(NAME, ["pixel"]) == "pixel" and variant_kind(NAME, ["pixel"]) == "joint"
    assert arm_error(NAME, ["pixel"]) is None
    assert "Choose one of pixel" in str(arm_error("degraded-joint", ["pixel"]))
    assert "has no losses to train with" in str(arm_error("frozen-joint", ["frozen"]))


def test_it_is_compared_with_both_retrained_networks() -> None:
    variants = ["clean", "degraded", "pixel", "degraded-retrained", "pixel-retrained", NAME, "task-joint"]
    pairs = [baseline for variant, baseline in compared_pairs(variants, ["pixel"], []) if variant == NAME]
    assert pairs == ["degraded", "degraded-retrained", "pixel-retrained"]


def test_a_mix_is_restored_or_the_other_image_or_patches_of_both() -> None:
    restored, others = torch.ones(300, 3, 64, 48), torch.zeros(300, 3, 64, 48)
    mixed = mix_patches(restored, others, torch.Generator().manual_seed(0))
    assert set(mixed.unique().tolist()) == {0.0, 1.0}
    shares = mixed.mean((1, 2, 3))
    whole, none = (shares == 1).float().mean().item(), (shares == 0).float().mean().item()
    assert abs(whole - 1 / 3) < 0.1 and abs(none - 1 / 3) < 0.1
    half = mixed[(shares > 0) & (shares < 1)]
    assert abs(half.mean().item() - 0.5) < 0.02
    patches = half.unfold(2, 8, 8).unfold(3, 6, 6).flatten(4)  # (K, 3, 8, 8, 48)
    assert (patches == patches[..., :1]).all()
    again = mix_patches(restored, others, torch.Generator().manual_seed(0))
    assert torch.equal(mixed, again)


@pytest.mark.parametrize("task", ["segmentation", "detection"])
def test_both_networks_learn_for_the_steps_of_a_retrained_network(task: str, project: Project) -> None:
    project.train_task(task)
    project.describe()
    before = load_file("network/weights.safetensors"), load_file("restorers/pixel/restorer.safetensors")
    seen: list[int] = []
    step = joint._task_step

    def watched(network: Any, weights: Any, optimizer: Any, batch: torch.Tensor, labels: Any) -> float:
        assert network.network.training is False and not any(weight.requires_grad for weight in weights)
        seen.append(len(batch))
        return step(network, weights, optimizer, batch, labels)

    project.monkeypatch.setattr(joint, "_task_step", watched)
    project.run(_params(task), "out")
    steps = {"segmentation": 4, "detection": math.ceil(6 / 2)}[task]  # those of `fit`: batches of 2 of 6 images
    assert seen == [2] * steps
    after = load_file("out/networks/weights.safetensors"), load_file("out/networks/restorer.safetensors")
    pairs = zip(before, after, strict=True)
    changed = [{name for name in old if not torch.equal(old[name], new[name])} for old, new in pairs]
    assert len(changed[0]) > len(before[0]) / 2 and len(changed[1]) > len(before[1]) / 2
    assert not any(".dfl." in name for name in changed[0])
    assert Path("out/test", RECORDS_FILE).exists() and json.loads(Path("out.json").read_text())["training_seconds"] > 0


def test_the_same_arm_has_the_same_bytes_and_another_mix_others(project: Project) -> None:
    project.train_task("segmentation")
    project.describe()
    for out, mix in (("a", "degraded"), ("b", "degraded"), ("c", "clean")):
        project.run(_params(mix=mix), out)
    files = [{path.name: path.read_bytes() for path in Path(out, "networks").iterdir()} for out in "abc"]
    assert files[0] == files[1]
    assert files[0]["weights.safetensors"] != files[2]["weights.safetensors"]


def test_a_killed_arm_goes_on_with_the_same_result(project: Project) -> None:
    project.train_task("segmentation")
    project.describe()
    project.run(_params(), "whole")
    project.monkeypatch.setattr("pipeline.training.loop.CHECKPOINT_SECONDS", 0.0)
    log = Loop.log

    def dies(loop: Loop, step: int, **values: float) -> None:
        if step == 3 and not Path("died").exists():
            Path("died").touch()
            raise KeyboardInterrupt
        log(loop, step, **values)

    project.monkeypatch.setattr(Loop, "log", dies)
    with pytest.raises(KeyboardInterrupt):
        project.run(_params(), "killed")
    assert not Path("killed").exists()
    project.run(_params(), "killed")
    for name in ("weights.safetensors", "restorer.safetensors"):
        assert Path("whole/networks", name).read_bytes() == Path("killed/networks", name).read_bytes()


def test_each_training_starts_from_a_restorer_of_its_own(project: Project) -> None:
    torch.manual_seed(1)
    save_restorer(Path("restorers/pixel/restorer-2.safetensors"), build_restorer("nafnet", SMALL).eval())
    project.train_task("segmentation")
    params = _params()
    twice = params.model_copy(update={"retraining": params.retraining.model_copy(update={"repeats": 2})})
    starts: list[str] = []
    train = arm.train_jointly
    project.monkeypatch.setattr(arm, "train_jointly", lambda *args: (starts.append(args[0].name), train(*args))[1])
    project.describe()
    once = json.loads(Path("images/joint.json").read_text())["restorer"]
    project._run(arm_images, twice, clean="clean", degraded="degraded", restorers="restorers", out="images")
    assert json.loads(Path("images/joint.json").read_text())["restorer"] != once
    project.run(twice, "out")
    assert starts == ["restorer.safetensors", "restorer-2.safetensors"]
    for folder in (Path("out"), Path("out", ON_CLEAN_FOLDER)):
        files = [folder / split / RECORDS_FILE for split in ("test", "test~2")]
        assert all(file.exists() for file in files) and files[0].read_bytes() != files[1].read_bytes()
    project.run(params, "first")
    for file in Path("first/networks").iterdir():
        assert file.read_bytes() == Path("out/networks", file.name).read_bytes()


def test_it_is_scored_on_the_images_of_its_own_restorer(project: Project) -> None:
    project.train_task("segmentation")
    project.describe()
    project.run(_params(), "out")
    task = get_task("segmentation").load(Path("out/networks"), torch.device("cpu"))
    restorer = load_restorer("out/networks/restorer.safetensors")
    for name, evaluated in (("degraded", "out/test"), ("clean", f"out/{ON_CLEAN_FOLDER}/test")):
        split = Dataset.open(Path(name)).split("test")
        for image_id in split.ids:
            with torch.inference_mode():
                restored = images.to_uint8(restorer(images.to_tensor(split.image(image_id))[None])[0])
            stored = images.read_mask(next(Path(evaluated, "predictions").rglob(f"{image_id}.png")))
            # Another memory format rounds differently, which turns pixels whose classes are nearly tied.
            assert np.mean(task.predict(restored) != stored) < 0.01
            assert np.mean(task.predict(split.image(image_id)) != stored) > 0.1


def test_what_trains_an_arm_again(project: Project) -> None:
    before = project.describe()
    assert before["losses"] and before["restorer"] and before["clean"]
    torch.manual_seed(1)
    restorer = build_restorer("nafnet", SMALL)
    torch.nn.init.normal_(next(restorer.parameters()))
    save_restorer(Path("restorers/pixel/restorer.safetensors"), restorer)
    after = project.describe()
    assert {name for name in before if before[name] != after[name]} == {"restorer"}


def test_a_divergence_names_the_step(project: Project) -> None:
    project.train_task("segmentation")
    project.describe()
    with pytest.raises(joint.TrainingError, match=r"^step \d: .*images train\d, train\d\. Lower retraining\.joint"):
        project.run(_params(task_rate=1e38, restorer_rate=1e30), "out")


def test_a_task_that_cannot_learn_from_crops_is_refused() -> None:
    params = load_params(ROOT / "params.yaml").model_copy(update={"tasks": ["classification"], "arms": [NAME]})
    with pytest.raises(ParamsError, match=r"'pixel-joint': classification cannot learn from crops\. Remove either"):
        check_names(params)
