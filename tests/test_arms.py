"""Arms: which images they get, by which network they are judged, with what they are compared."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data import images
from data.dataset import Dataset, write_info
from models.restorers import build_restorer, save_restorer
from models.restorers.contract import Restorer
from models.tasks import TaskError
from pipeline import arm, arm_images
from pipeline.metrics import MeanRecords, get_scoring
from pipeline.reporting import score_rows
from pipeline.running.artifacts import ON_CLEAN_FOLDER, RECORDS_FILE, arm_images_folder, record_files
from pipeline.running.atomic_outputs import StageFileError
from pipeline.settings.params import Params, ParamsError, load_params
from pipeline.settings.retraining import RetrainedTask, Retraining
from pipeline.statistics.comparison import ONE_TRAINING
from pipeline.statistics.resampling import Resamples
from pipeline.statistics.systems import System
from pipeline.training import task_networks
from pipeline.training.loop import no_stream

PARAMS = load_params(Path(__file__).parents[1] / "params.tiny.yaml")
SMALL = {"width": 4, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]}


@pytest.fixture
def restorers(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    restorer = build_restorer("nafnet", SMALL)
    with torch.no_grad():
        for parameter in restorer.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    (tmp_path / "restorers" / "pixel").mkdir(parents=True)
    save_restorer(tmp_path / "restorers" / "pixel" / "restorer.safetensors", restorer.eval())
    return tmp_path / "restorers"


def _images(
    name: str,
    clean: Dataset,
    degraded: Dataset,
    restorers: Path,
    monkeypatch: pytest.MonkeyPatch,
    params: Params = PARAMS,
) -> Dataset:
    out = clean.folder.parent / "images" / name
    folders = ["--clean", str(clean.folder), "--degraded", str(degraded.folder), "--restorers", str(restorers)]
    folders += ["--objectives", str(restorers.parent / "objectives")]
    monkeypatch.setattr("sys.argv", ["arm_images", "--arm", name, *folders, "--out", str(out)])
    monkeypatch.setattr(arm_images, "load_params", lambda: params)
    arm_images.main()
    return Dataset.open(out)


def _two_datasets(make_dataset: Callable[..., Dataset], **splits: int) -> tuple[Dataset, Dataset]:
    """A clean dataset and a degraded one, whose images are darker."""
    clean, degraded = (make_dataset(name, (64, 64), **splits) for name in ("clean", "degraded"))
    for path in degraded.folder.glob("*/images/*.png"):
        images.write_image(path, images.read_image(path) // 3)
    return clean, degraded


@pytest.mark.parametrize(
    ("name", "copied"),  # the dataset that a split is copied from; "": its images are restored
    [
        ("degraded-retrained", {"train": "degraded", "test": "degraded", ON_CLEAN_FOLDER: "clean"}),
        ("clean-retrained", {"train": "clean", "test": "degraded", ON_CLEAN_FOLDER: "clean"}),
        ("pixel-retrained", {"train": "", "test": "", ON_CLEAN_FOLDER: ""}),
        ("clean-restored-pixel", {"test": ""}),
    ],
)
def test_images_of_an_arm(
    make_dataset: Callable[..., Dataset],
    restorers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    copied: dict[str, str],
) -> None:
    monkeypatch.chdir(tmp_path)
    clean, degraded = _two_datasets(make_dataset)
    groups = {"train": {"train0": "a"}, "test": {"test0": "b"}}
    for dataset in (clean, degraded):
        write_info(dataset.folder, replace(dataset.info, groups=groups))
    found = _images(name, clean, degraded, restorers, monkeypatch)
    assert [*found.info.splits] == [split for split in copied if split != ON_CLEAN_FOLDER]
    assert found.info.groups == {split: groups[split] for split in found.info.splits}
    assert (found.folder / ON_CLEAN_FOLDER).exists() == (ON_CLEAN_FOLDER in copied)
    for split, source in copied.items():
        dataset, name = (Dataset.open(found.folder / split), "test") if split == ON_CLEAN_FOLDER else (found, split)
        written, given = dataset.split(name), (degraded if source == "degraded" else clean).split(name)
        assert dataset.info.groups[name] == groups[name] and written.ids == given.ids
        for id in given.ids:
            assert np.array_equal(written.mask(id), given.mask(id))
            assert np.array_equal(written.boxes(id), given.boxes(id))
            assert np.array_equal(written.image(id), given.image(id)) == bool(source)


def _second_restorer(folder: Path) -> Restorer:
    """Another training of the restorer in a folder."""
    restorer = build_restorer("nafnet", SMALL)
    with torch.no_grad():
        for parameter in restorer.parameters():
            parameter.fill_(0.01)
    save_restorer(folder / "restorer-2.safetensors", restorer.eval())
    return restorer


def test_each_training_has_the_images_of_its_own_restorer(
    make_dataset: Callable[..., Dataset], restorers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    clean, degraded = _two_datasets(make_dataset)
    second = _second_restorer(restorers / "pixel")
    once = _images("pixel-retrained", clean, degraded, restorers, monkeypatch)
    assert not arm_images_folder(once.folder, 2).exists()
    twice = PARAMS.model_copy(update={"retraining": Retraining(repeats=2)})
    first = _images("pixel-retrained", clean, degraded, restorers, monkeypatch, twice)
    other = Dataset.open(arm_images_folder(first.folder, 2))
    for split in ("train", "test"):
        for id in first.split(split).ids:
            restored = images.to_uint8(second(images.to_tensor(degraded.split(split).image(id))[None])[0])
            assert np.array_equal(other.split(split).image(id), restored)
            assert not np.array_equal(first.split(split).image(id), restored)
    shared = _images("degraded-retrained", clean, degraded, restorers, monkeypatch, twice)
    assert not arm_images_folder(shared.folder, 2).exists()


def test_a_missing_restorer_is_not_passed_over(
    make_dataset: Callable[..., Dataset], restorers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    clean, degraded = (make_dataset(name, (64, 64), train=2, test=2) for name in ("clean", "degraded"))
    shutil.rmtree(restorers / "pixel")
    with pytest.raises(StageFileError, match=r"restorer\.safetensors is missing"):
        _images("pixel-retrained", clean, degraded, restorers, monkeypatch)


def test_a_name_that_is_no_arm_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arm_images, "load_params", lambda: PARAMS)
    names = ("clean", "degraded", "restorers", "objectives", "out")
    folders = [word for name in names for word in (f"--{name}", str(tmp_path))]
    monkeypatch.setattr("sys.argv", ["arm_images", "--arm", "retraind", *folders])
    with pytest.raises(ParamsError, match=r"--arm: 'retraind' is no arm\. Choose degraded-retrained, clean-retrained"):
        arm_images.main()


def _evaluated(
    name: str,
    repeats: int,
    make_dataset: Callable[..., Dataset],
    restorers: Path,
    monkeypatch: pytest.MonkeyPatch,
    killed_in: int = 0,
) -> tuple[Dataset, dict[int, Path]]:
    """The images of an arm whose segmenter was evaluated into `out`; by seed, the images that it was trained on.

    With `killed_in`, the first attempt is killed when it begins this training.
    """
    clean, degraded = (make_dataset(kind, (64, 64), train=6, test=2) for kind in ("clean", "degraded"))
    section = {**PARAMS.train_task["segmentation"], "steps": 90, "batch": 2, "crop": 32}
    shorter = Retraining(repeats=repeats, train_task={"segmentation": RetrainedTask(steps=2)})
    params = PARAMS.model_copy(update={"train_task": {"segmentation": section}, "retraining": shorter})
    found = _images(name, clean, degraded, restorers, monkeypatch, params)
    Path("segmentation.json").write_text("{}")
    trained: dict[int, Path] = {}
    fit = task_networks.train_task_network

    def watched(seed: int, task: str, section: dict[str, Any], dataset: Dataset, *rest: Any) -> Any:
        nonlocal killed_in
        assert section["steps"] == 2 and section["batch"] == 2  # the changes of `retraining.train_task`
        if len(trained) + 1 == killed_in:
            killed_in = 0
            raise KeyboardInterrupt
        assert seed not in trained
        trained[seed] = dataset.folder
        return fit(seed, task, section, dataset, *rest)

    network, _ = fit(0, "segmentation", section | {"steps": 2}, clean, Path("work/x"), no_stream, "train x")
    Path("network").mkdir()
    network.save(Path("network"))
    monkeypatch.setattr(arm, "train_task_network", watched)
    monkeypatch.setattr(arm, "load_params", lambda: params)
    words = ["--task", "segmentation", "--arm", name, "--plan", "segmentation.json", "--images", str(found.folder)]
    unread = [
        word
        for option in ("degradation", "clean", "degraded", "restorers", "prior")
        for word in (f"--{option}", "none")
    ]
    words += ["--network", "network", "--out", "out", "--costs", "costs.json"]
    monkeypatch.setattr("sys.argv", ["arm", *words, *unread])
    if killed_in:
        with pytest.raises(KeyboardInterrupt):
            arm.main()
        assert not Path("out").exists()
    arm.main()
    assert not list(Path("work").rglob(arm.FINISHED_FOLDER))
    return found, trained


@pytest.mark.parametrize("name", ["degraded-retrained", "clean-restored-pixel"])
def test_a_network_is_trained_only_where_the_arm_asks(
    make_dataset: Callable[..., Dataset], restorers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found, trained = _evaluated(name, 1, make_dataset, restorers, monkeypatch)
    is_retrained = name == "degraded-retrained"
    assert ("training_seconds" in json.loads(Path("costs.json").read_text())) == is_retrained
    assert len(trained) == is_retrained
    assert Path("out", "test", RECORDS_FILE).exists()
    assert Path("out", ON_CLEAN_FOLDER, "test", RECORDS_FILE).exists() == is_retrained
    assert get_scoring("segmentation").read(Path("out/test/predictions")).keys() == set(found.split("test").ids)


def test_repeats_are_trained_and_scored_with_different_seeds(
    make_dataset: Callable[..., Dataset], restorers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, trained = _evaluated("degraded-retrained", 3, make_dataset, restorers, monkeypatch, killed_in=3)
    assert len(trained) == 3 and len(set(trained.values())) == 1  # by the second attempt only the third
    for folder in (Path("out"), Path("out", ON_CLEAN_FOLDER)):
        (files,) = record_files(folder).values()
        assert len(files) == 3 and all(file.exists() for file in files)
        masks = [b"".join(mask.read_bytes() for mask in sorted(file.parent.rglob("*.png"))) for file in files]
        assert len(set(masks)) == 3


def test_each_network_is_trained_and_scored_on_the_images_of_its_own_restorer(
    make_dataset: Callable[..., Dataset], restorers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _second_restorer(restorers / "pixel")
    seen: list[Path] = []
    evaluate = arm.evaluate
    monkeypatch.setattr(arm, "evaluate", lambda *args, **named: (seen.append(args[1].folder), evaluate(*args, **named)))
    found, trained = _evaluated("pixel-retrained", 2, make_dataset, restorers, monkeypatch)
    folders = [arm_images_folder(found.folder, number) for number in (1, 2)]
    assert list(trained.values()) == folders
    assert seen == [path for folder in folders for path in (folder / "test", folder / ON_CLEAN_FOLDER / "test")]


def test_a_network_with_other_classes_is_not_trained(
    make_dataset: Callable[..., Dataset], restorers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = make_dataset("clean", (64, 64), train=2, test=2)
    section = {**PARAMS.train_task["segmentation"], "steps": 2, "batch": 2, "crop": 32}
    names = clean.info.classes["segmentation"]
    monkeypatch.chdir(tmp_path)
    network, _ = task_networks.train_task_network(0, "segmentation", section, clean, Path("work/x"), no_stream, "train")
    network.require_own_classes()
    kind = type(network)
    for classes in (names[::-1], names[:-1]):
        other = kind(network.network, classes, network.description, network.device, names)
        with pytest.raises(TaskError, match=r"whose outputs are not the data's classes in their order"):
            other.require_own_classes()


def _cell(names: list[str], trainings: int = 1) -> dict[str, System]:
    """Each variant scores 1 more than the one before, on each of six images; each training 0.01 more."""
    resamples = Resamples.draw(np.arange(6), 100, 0)
    cell = {}
    for n, name in enumerate(names):
        trained = name not in ("clean", "degraded", "clean-restored-pixel")
        tables = [
            MeanRecords.from_values({f"i{k}": {"s": n + k / 9 + number * n / 100} for k in range(6)})
            for number in range(trainings if trained else 1)
        ]
        cell[name] = System.from_tables(tables, resamples, trained=trained)
    return cell


def test_comparisons_have_the_arms_beside_them() -> None:
    names = [
        "clean",
        "degraded",
        "pixel",
        "diffloss",
        "degraded-retrained",
        "diffloss-retrained",
        "clean-restored-pixel",
    ]
    cell = _cell(names)
    pairs = {(row["variant"], row["versus"]) for row in score_rows.gain_rows("t", "fog", cell, 0.95)}
    expected = {
        *((name, "degraded") for name in ("clean", "pixel", "diffloss", "degraded-retrained", "diffloss-retrained")),
        ("diffloss", "pixel"),
        *((name, "degraded-retrained") for name in ("pixel", "diffloss", "diffloss-retrained")),
        ("clean-restored-pixel", "clean"),
    }
    assert pairs == expected
    reasons = {(row["variant"], row["versus"]): row["reason"] for row in score_rows.gain_rows("t", "fog", cell, 0.95)}
    assert reasons["diffloss", "pixel"] == ONE_TRAINING
    for variant in ("pixel", "diffloss-retrained"):
        assert reasons[variant, "degraded-retrained"] == score_rows.RETRAINED_ONCE
    assert not any("training" in reasons[pair] for pair in reasons if pair[1] in ("degraded", "clean"))
    several = _cell(names, trainings=5)
    for row in score_rows.gain_rows("t", "fog", several, 0.95):
        if row["versus"] == "degraded-retrained":
            assert row["n_trainings"] == 5 and row["ci_low"] < row["gain"] < row["ci_high"]
    cell["longer"] = cell["pixel"]
    with_two = score_rows.gain_rows("t", "fog", cell, 0.95, ["pixel", "longer"])
    added = {("longer", "degraded"), ("longer", "degraded-retrained"), ("longer", "pixel"), ("diffloss", "longer")}
    assert {(row["variant"], row["versus"]) for row in with_two} == expected | added


def test_an_objective_can_be_a_baseline_of_the_others() -> None:
    cell = _cell(["degraded", "pixel", "task", "task-seg", "diffloss"])
    gains = score_rows.gain_rows("t", "fog", cell, 0.95, ["pixel"], ["task", "task-seg", "absent"])
    pairs = [(row["variant"], row["versus"]) for row in gains if row["versus"] not in ("degraded", "pixel")]
    assert pairs == [("task-seg", "task"), ("diffloss", "task"), ("diffloss", "task-seg")]
    against_pixel = [row["variant"] for row in gains if row["versus"] == "pixel"]
    assert against_pixel == ["task", "task-seg", "diffloss"]
    (row,) = (row for row in gains if (row["variant"], row["versus"]) == ("diffloss", "task"))
    assert row["gain"] == pytest.approx(2)
