"""One contract for all tasks; what is particular to one follows below."""

from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.batches import MaskBatches
from data.dataset import Dataset
from models.tasks import TASKS, TaskError, get_task
from models.tasks.contract import Task
from models.tasks.predictions import Label
from pipeline.metrics import METRICS, QUALITY, get_scoring, main_metric
from pipeline.metrics.evaluation import predict_images
from pipeline.training.loop import Loop

SETTINGS: dict[str, dict[str, Any]] = {
    "detection": {
        "model": "yolo11n.yaml",
        "weights": None,
        "image_size": 64,
        "epochs": 2,
        "batch": 4,
        "learning_rate": 1e-3,
        "mosaic": 0.0,
    },
    "instance-segmentation": {
        "model": "yolo11n-seg.yaml",
        "weights": None,
        "image_size": 64,
        "epochs": 1,
        "batch": 4,
        "learning_rate": 1e-3,
        "mosaic": 0.0,
        "precision": "bf16",
    },
    "segmentation": {
        "architecture": "unet",
        "encoder": "tu-mobilenetv3_small_050",
        "weights": None,
        "steps": 3,
        "batch": 4,
        "crop": 32,
        "learning_rate": 1e-3,
        "precision": "bf16",
    },
    "classification": {
        "model": "resnet10t",
        "weights": None,
        "image_size": 64,
        "steps": 3,
        "batch": 4,
        "learning_rate": 1e-3,
    },
}

each = pytest.mark.parametrize("name", TASKS)
pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries behind the tasks


def _fit(name: str, dataset: Dataset, work: Path) -> Task[Any]:
    split, task = dataset.split("train"), get_task(name)
    loop = Loop(name, work, 0, torch.device("cpu"))
    batches = partial(MaskBatches, split, 0)
    return task.fit(split, batches, dataset.info.classes[task.labels], SETTINGS[name], loop)


@pytest.fixture(scope="module")
def trained(shared_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Task[Any]]:
    """Trains each task once for all tests that only use it."""
    return cache(lambda name: _fit(name, shared_dataset, tmp_path_factory.mktemp("work")))


@each
def test_save_load_predict_write_read(
    name: str, trained: Callable[[str], Task[Any]], make_dataset: Any, tmp_path: Path
) -> None:
    task = trained(name)
    split = make_dataset("other").split("test")
    predictions = {id: task.predict(split.image(id)) for id in split.ids}
    task.save(tmp_path)
    loaded = get_task(name).load(tmp_path, torch.device("cpu"))
    scoring = get_scoring(name)
    with scoring.writer(tmp_path) as writer:
        for id, prediction in predictions.items():
            writer.write(id, prediction)
    stored = scoring.read(tmp_path)
    assert set(stored) == set(predictions)
    for id in split.ids:
        assert _same(loaded.predict(split.image(id)), predictions[id])
        assert _same(stored[id], predictions[id], atol=1e-3)
        drawn = scoring.draw(split.image(id), predictions[id], task.classes)
        assert drawn.shape == split.image(id).shape and drawn.dtype == np.uint8


@each
def test_the_labels_score_perfectly(name: str, make_dataset: Any) -> None:
    dataset, scoring = make_dataset("other"), get_scoring(name)
    split = dataset.split("test")
    truth = {id: scoring.truth(split, id) for id in split.ids}
    records: Any = scoring.score(truth, split, dataset.info.classes[scoring.labels])
    assert all(value[0] == pytest.approx(1.0) for value in records.metrics().values())
    declared = [[metric.name for metric in metrics] for metrics in (scoring.metrics, scoring.image_metrics)]
    assert [list(records.metrics()), list(records.image_scores())] == declared
    assert all(list(metrics) == [m.name for m in scoring.class_metrics] for metrics in records.scores()[1].values())


@each
def test_a_task_is_scored_with_the_labels_that_it_is_trained_on(name: str) -> None:
    scoring, task = get_scoring(name), get_task(name)
    assert scoring.labels == task.labels and task.name == name
    assert main_metric(name) in scoring.metrics
    assert task.settings_type is import_module(task.__module__).Settings


def test_every_task_has_a_scoring() -> None:
    assert set(METRICS) == {*TASKS, QUALITY}


@each
def test_training_twice_gives_the_same_weights_and_writes_nothing_outside_the_work_folder(
    name: str, trained: Callable[[str], Task[Any]], shared_dataset: Dataset, tmp_path: Path, monkeypatch: Any
) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    first, second = trained(name), _fit(name, shared_dataset, tmp_path / "work")
    assert list((tmp_path / "cwd").iterdir()) == []
    assert not list(shared_dataset.folder.rglob("*.cache"))
    for key, value in first.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[key]), key


@each
def test_any_size_and_frozen(name: str, trained: Callable[[str], Task[Any]]) -> None:
    task = trained(name)
    image = np.random.default_rng(0).integers(0, 256, (45, 70, 3), dtype=np.uint8)
    before = image.copy()
    task.predict(image)
    assert np.array_equal(image, before)
    assert not any(parameter.requires_grad for parameter in task.network.parameters())


@each
def test_an_image_is_predicted_in_a_batch_as_alone(name: str, trained: Callable[[str], Task[Any]]) -> None:
    """Up to rounding, which moves a box by less than 0.01 pixels and may decide a near tie between two classes."""
    task, rng = trained(name), np.random.default_rng(0)
    sizes = [(64, 80), (48, 64), (64, 80), (80, 64), (64, 80), (48, 64)]
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    for image, together in zip(images, predict_images(task, images), strict=True):
        alone = task.predict(image)
        if isinstance(alone, np.ndarray):
            assert together.shape == image.shape[:2] and (together != alone).mean() < 1e-3
        elif isinstance(alone, Label):
            assert together.category == alone.category and together.score == pytest.approx(alone.score, abs=1e-5)
        else:
            assert np.array_equal(together.classes, alone.classes)
            assert together.scores == pytest.approx(alone.scores, abs=1e-5)
        if name == "detection":
            assert together.boxes == pytest.approx(alone.boxes, abs=0.01)


@each
def test_features_carry_a_gradient_into_the_image_and_none_into_the_network(
    name: str, trained: Callable[[str], Task[Any]]
) -> None:
    task = trained(name)
    images = torch.rand(2, 3, 40, 56, requires_grad=True)
    maps = task.features(images)
    assert len(maps) >= 3 and all(len(layer) == 2 for layer in maps)
    torch.stack([layer.square().mean() for layer in maps]).sum().backward()
    assert images.grad is not None and images.grad.abs().amax(dim=(1, 2, 3)).min() > 0
    assert all(parameter.grad is None for parameter in task.network.parameters())
    for first, second in zip(maps, task.features(images), strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)


def _labels(name: str) -> Any:
    """Labels of two images of 40 x 56."""
    if name == "segmentation":
        masks = torch.zeros(2, 40, 56, dtype=torch.int64)
        masks[:, 10:30, 10:40], masks[:, :4] = 1, 255
        return masks
    return [torch.tensor([[0, 0.5, 0.5, 0.4, 0.6], [1, 0.2, 0.3, 0.2, 0.2]]), torch.zeros(0, 5)]


@each
def test_the_training_loss_decreases_along_its_gradient_and_changes_no_weights(
    name: str, trained: Callable[[str], Task[Any]]
) -> None:
    task = trained(name)
    images = torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(1), requires_grad=True)
    if not task.has_training_loss:
        with pytest.raises(TaskError, match=f"^{name}: this task has no training loss"):
            task.training_loss(images, [])
        return
    before = {key: value.clone() for key, value in task.network.state_dict().items()}
    loss = task.training_loss(images, _labels(name))
    assert loss.shape == () and float(loss) > 0
    (gradient,) = torch.autograd.grad(loss, images)
    assert gradient.abs().amax(dim=(1, 2, 3)).min() > 0
    moved = images.detach() - 1e-2 * gradient / gradient.norm()
    assert task.training_loss(moved, _labels(name)) < loss
    assert not task.network.training and all(parameter.grad is None for parameter in task.network.parameters())
    for key, value in task.network.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_the_training_loss_of_a_detector_knows_padding_and_the_order_of_classes(
    trained: Callable[[str], Task[Any]],
) -> None:
    task, images, boxes = trained("detection"), torch.rand(2, 3, 40, 56), _labels("detection")
    padded = torch.nn.functional.pad(images, (0, 8, 0, 24), mode="replicate")
    scaled = [rows * torch.tensor([1, 56 / 64, 40 / 64, 56 / 64, 40 / 64]) for rows in boxes]
    loss = task.training_loss(images, boxes)
    torch.testing.assert_close(task.training_loss(padded, scaled), loss)
    swapped = type(task)(task.network, ["bar", "square"], task.description, task.device, ["square", "bar"])
    other = [rows * torch.tensor([-1, 1, 1, 1, 1]) + torch.tensor([1, 0, 0, 0, 0]) for rows in boxes]
    torch.testing.assert_close(swapped.training_loss(images, other), loss)
    assert not torch.allclose(swapped.training_loss(images, boxes), loss, rtol=1e-4)
    assert torch.isfinite(task.training_loss(images, [torch.zeros(0, 5)] * 2))


def test_the_training_loss_of_a_segmenter_ignores_what_the_mask_does(trained: Callable[[str], Task[Any]]) -> None:
    task, images, masks = trained("segmentation"), torch.rand(2, 3, 40, 56, requires_grad=True), _labels("segmentation")
    swapped = type(task)(task.network, ["bar", "ground"], task.description, task.device, ["ground", "square", "bar"])
    assert swapped.training_loss(images, masks) > 0  # over two of the network's three classes
    nothing = task.training_loss(images, torch.full_like(masks, 255))
    assert nothing == 0 and torch.autograd.grad(nothing, images)[0].abs().sum() == 0


@each
def test_missing_labels_are_an_error(name: str, make_dataset: Any, tmp_path: Path) -> None:
    dataset = make_dataset("bare", train=2, test=1)
    for folder in ("labels", "instances", "masks", "categories"):
        (dataset.folder / "train" / folder).rename(dataset.folder / "train" / f"no-{folder}")
    with pytest.raises(TaskError, match=f"take {name} out of tasks"):
        _fit(name, dataset, tmp_path / "work")


@each
def test_settings_are_checked_before_any_work(name: str) -> None:
    task = get_task(name)
    assert task.check(SETTINGS[name]) == task.check({}) == []
    with pytest.raises(TaskError, match=rf"train_task\.{name}: unknown setting 'stepps'; there are"):
        task.check({**SETTINGS[name], "stepps": 3})
    with pytest.raises(TaskError, match=rf"train_task\.{name}\.batch: .* greater than or equal to 2, got 1$"):
        task.check({**SETTINGS[name], "batch": 1})


def test_unknown_task() -> None:
    with pytest.raises(TaskError, match=f"no task 'depth'; there are: {', '.join(TASKS)}"):
        get_task("depth")


def test_unknown_architecture_names_it(
    shared_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SETTINGS["segmentation"], "encoder", "resnet17")
    with pytest.raises(TaskError, match=r"train_task\.segmentation: .* encoder 'resnet17'"):
        _fit("segmentation", shared_dataset, tmp_path)


def _same(left: Any, right: Any, atol: float = 0.0) -> bool:
    if isinstance(left, np.ndarray):
        return np.array_equal(left, right)
    parts = left._asdict() if isinstance(left, tuple) else vars(left)
    return all(
        value == getattr(right, part)
        if part in ("masks", "size")
        else np.allclose(value, getattr(right, part), atol=atol)
        for part, value in parts.items()
    )
