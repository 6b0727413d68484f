"""Restorers that are trained on a mixture of degradations."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data import images
from data.batches import PairBatches
from data.dataset import Dataset
from models.restorers import load_restorer
from pipeline import train_mixture, train_restorer
from pipeline.objective import describe
from pipeline.reporting.compared_pairs import compared_pairs
from pipeline.reporting.tables import write_costs
from pipeline.settings.grammar import (
    arm_error,
    is_loss_name,
    is_mixture_name,
    is_pixel_objective,
    mixture_name,
    objective_losses,
    objective_of,
    same_losses,
    specialist,
    variant_kind,
)
from pipeline.settings.params import Params, ParamsError, load_params
from pipeline.tracking.comparison_rows import Folders, trainings
from pipeline.training.validation import Validator

ROOT = Path(__file__).parents[1]
MIXED = "pixel-on-all"


@pytest.fixture
def degraded(make_dataset: Callable[..., Dataset]) -> list[Dataset]:
    """Three datasets of the same ids; all images of one have the same level of grey."""
    datasets = [make_dataset(name, train=6, val=2, test=2) for name in ("fog", "lowlight", "rain")]
    for level, dataset in zip((50, 100, 150), datasets, strict=True):
        for path in dataset.folder.glob("*/images/*.png"):
            images.write_image(path, np.full_like(images.read_image(path), level))
    return datasets


def test_names() -> None:
    assert (mixture_name(MIXED), specialist(MIXED)) == ("all", "pixel")
    assert (mixture_name("pixel"), specialist("pixel")) == (None, "pixel")
    assert list(objective_losses("task + diffloss-on-wet", {})) == ["pixel", "task", "diffloss"]
    assert not is_pixel_objective(MIXED, {}) and not is_loss_name(MIXED)
    assert (
        same_losses("task + diffloss-on-wet") == same_losses("diffloss + task-on-wet") != same_losses("diffloss + task")
    )
    assert same_losses(MIXED) != same_losses("pixel")
    assert objective_of(f"{MIXED}-retrained", [MIXED]) == objective_of(f"clean-restored-{MIXED}", [MIXED]) == MIXED
    assert variant_kind(MIXED, [MIXED]) == "restored" and arm_error(f"{MIXED}-retrained", [MIXED]) is None


@pytest.mark.parametrize("name", ["a-on-b", "all-retrained", "on-all-on"])
def test_a_mixture_may_not_look_like_a_part_of_another_name(name: str) -> None:
    assert is_mixture_name("all") and not is_mixture_name(name)


def _pixels(batches: PairBatches, steps: int) -> list[float]:
    return [float(image.median()) * 255 for step in range(steps) for image in batches(step)[0]]


def test_each_pair_has_one_of_the_degradations_and_nothing_else_changes(
    degraded: list[Dataset], make_dataset: Callable[..., Dataset]
) -> None:
    clean = make_dataset("clean", train=6).split("train")
    splits = [dataset.split("train") for dataset in degraded]
    mixed = PairBatches(splits, clean, 16, 4, 0)
    counts = Counter(round(level) for level in _pixels(mixed, 30))
    assert set(counts) == {50, 100, 150} and min(counts.values()) > 25  # of 120
    alone = PairBatches(splits[0], clean, 16, 4, 0)
    for step in range(3):
        assert torch.equal(mixed(step)[1], alone(step)[1])  # the same crops of the clean images
        assert torch.equal(mixed(step)[0], PairBatches(splits, clean, 16, 4, 0)(step)[0])
    # Clean pairs stay clean, and do not change the draws of the others.
    some = PairBatches(splits, clean, 16, 4, 0, clean_share=0.5)
    same = [torch.equal(some(0)[0][place], mixed(0)[0][place]) for place in range(4)]
    own = [torch.equal(some(0)[0][place], some(0)[1][place]) for place in range(4)]
    assert [not value for value in own] == same


def test_validation_images_take_turns(degraded: list[Dataset], make_dataset: Callable[..., Dataset]) -> None:
    settings = load_params(ROOT / "params.tiny.yaml").train_restorer.validation.model_copy(update={"every": 1})
    clean = make_dataset("clean", train=6, val=2).split("val")
    seen: list[int] = []

    class Identity(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            seen.append(round(float(batch.median()) * 255))
            return batch

    network: Any = Identity()
    Validator([dataset.split("val") for dataset in degraded], clean, settings)(1, network)
    assert seen == [50, 100]


def _params(**changes: Any) -> Params:
    params = load_params(ROOT / "params.tiny.yaml")
    mixtures = {"all": ("fog", "lowlight")}
    restorer = params.train_restorer.model_copy(update={"mixtures": mixtures, "steps": 3, **changes})
    return params.model_copy(update={"objectives": ["pixel", MIXED], "train_restorer": restorer})


@pytest.fixture
def described(
    degraded: list[Dataset], make_dataset: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], dict[str, Any]]:
    """Writes and returns what the stage `objective` writes about an objective, in a folder with the data."""
    monkeypatch.chdir(tmp_path)
    make_dataset("clean", train=6, val=2, test=2)
    for name in ("prior", "tasks", "code/objectives"):
        Path(name).mkdir(parents=True)
    for name in ("pixel", MIXED):
        Path("code/objectives", name).write_text("0123\n")
    sets = degraded[0].folder.parent

    def describe_and_write(name: str) -> dict[str, Any]:
        content = describe(name, _params(), Path("prior"), Path("tasks"), Path("code"), sets)
        Path(f"{name}.json").write_text(json.dumps(content))
        return content

    return describe_and_write


def test_only_the_training_images_of_the_mixture_train_again(
    described: Callable[[str], dict[str, Any]], degraded: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.objective.data_digest", _bytes_of)
    assert described("pixel")["mixture"] == {}
    before = described(MIXED)
    assert list(before["mixture"]) == ["fog", "lowlight"]
    for dataset, split, counts in ((2, "train", False), (0, "test", False), (0, "val", True), (1, "train", True)):
        path = next((degraded[dataset].folder / split / "images").glob("*.png"))
        images.write_image(path, images.read_image(path) + 1)
        after = described(MIXED)
        assert (after != before) == counts
        before = after


def _bytes_of(folder: Path) -> str:
    return str(sorted((path.name, path.read_bytes()) for path in folder.iterdir()))


def _run(stage: Any, monkeypatch: pytest.MonkeyPatch, **options: str) -> None:
    monkeypatch.setattr(stage, "load_params", _params)
    monkeypatch.setattr("sys.argv", ["stage", *(word for name in options for word in (f"--{name}", options[name]))])
    stage.main()


def test_one_training_serves_every_degradation(
    described: Callable[[str], dict[str, Any]], degraded: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = str(degraded[0].folder.parent)
    shared = {"clean": "clean", "prior": "prior", "tasks": "tasks"}
    for name in ("pixel", MIXED):
        described(name)
        files = {"objective": f"{name}.json", "out": f"mixtures/{name}", "costs": f"costs/mixtures/{name}.json"}
        _run(train_mixture, monkeypatch, degraded=sets, **shared, **files)
        for degradation in ("fog", "lowlight"):
            files["out"], files["costs"] = f"{degradation}/{name}", f"costs/training/{degradation}/{name}.json"
            words = {"degradation": degradation, "degraded": f"{sets}/{degradation}", "mixture": f"mixtures/{name}"}
            _run(train_restorer, monkeypatch, **words, **shared, **files)
    assert [path.name for path in Path("mixtures/pixel").iterdir()] == ["not-needed.txt"]
    for file in ("restorer.safetensors", "curve.csv"):
        assert Path("fog", MIXED, file).read_bytes() == Path("lowlight", MIXED, file).read_bytes()
        assert Path("fog", MIXED, file).read_bytes() == Path("mixtures", MIXED, file).read_bytes()
        assert Path("fog", MIXED, file).read_bytes() != Path("fog/pixel", file).read_bytes()
    batch = torch.rand(1, 3, 20, 24)
    assert not torch.equal(load_restorer(f"fog/{MIXED}/restorer.safetensors")(batch), batch)

    params = _params().model_copy(update={"objectives": ["pixel", MIXED], "degradations": ["fog", "lowlight"]})
    folders = Folders(Path(sets), Path(), Path(), Path(), Path("prior"), Path("tasks"), Path())
    published = {training.name: training for training in trainings(params, folders)}  # its curve, if streaming failed
    assert published[MIXED].tags == {"stage": "train_mixture"} and len(published[MIXED].curve) > 0

    # The price is stated once, with the mixture.
    Path("costs/tasks").mkdir()
    Path("costs/prior.json").write_text("{}")
    for degradation in ("fog", "lowlight"):
        Path("costs/restoring", degradation).mkdir(parents=True)
        for name in ("pixel", MIXED):
            Path("costs/restoring", degradation, f"{name}.json").write_text("{}")
    write_costs(_params().model_copy(update={"tasks": []}), Path("costs"), Path())
    rows = [line.split(",") for line in Path("costs.csv").read_text().splitlines()]
    seconds = rows[0].index("training_seconds")
    trained = {(row[0], row[1], row[2]): row[seconds] for row in rows[1:]}
    assert float(trained["train_mixture", "all", MIXED]) > 0
    assert trained["train_restorer", "fog", MIXED] == trained["train_restorer", "lowlight", MIXED] == ""
    assert float(trained["train_restorer", "fog", "pixel"]) > 0


def test_a_mixture_is_compared_with_the_specialist_and_with_the_pixel_loss_on_it() -> None:
    variants = ["clean", "degraded", "pixel", "diffloss", MIXED, "diffloss-on-all", "task-on-wet"]
    pairs = compared_pairs(variants, ["pixel"], ["diffloss"])
    mixed = [(variant, baseline) for variant, baseline in pairs if "-on-" in variant and baseline != "degraded"]
    assert mixed == [(MIXED, "pixel"), ("diffloss-on-all", "diffloss"), ("diffloss-on-all", MIXED)]
    assert ("diffloss", "pixel") in pairs and (MIXED, "degraded") in pairs
    assert len(pairs) == len(set(pairs))


def test_steps_of_a_mixture() -> None:
    restorer = _params(steps_of={MIXED: 9}).train_restorer
    assert restorer.of(MIXED).steps == 9 and restorer.of("pixel").steps == 3
    assert restorer.of(MIXED).mixtures == {"all": ("fog", "lowlight")} and restorer.of("pixel").mixtures == {}
    assert "mixtures" not in restorer.of("pixel").training and "mixtures" in restorer.of(MIXED).training


@pytest.mark.parametrize(
    ("mixtures", "message"),
    [
        ("{}", r"objectives: 'pixel-on-all': 'all' is not in train_restorer\.mixtures"),
        ("{all: [fog]}", r"train_restorer\.mixtures\.all: Tuple should have at least 2 items"),
        ("{all: [fog, fog]}", r"train_restorer\.mixtures: all: a degradation occurs twice in \['fog', 'fog'\]"),
        ("{all: [fog, snow]}", r"train_restorer\.mixtures\.all: 'snow' is not among the degradations\. Choose from"),
        ("{a-on-b: [fog, lowlight]}", r"train_restorer\.mixtures: 'a-on-b' is part of other names"),
    ],
)
def test_mistakes(mixtures: str, message: str, tmp_path: Path) -> None:
    text = (ROOT / "params.tiny.yaml").read_text().replace("mixtures: {}", f"mixtures: {mixtures}")
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("objectives: [pixel, diffloss]", f"objectives: [pixel, {MIXED}]"))
    with pytest.raises(ParamsError, match=message):
        load_params(path)
