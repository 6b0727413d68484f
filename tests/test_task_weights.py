"""Networks trained elsewhere: frozen or as a start, classes matched by name, files checked before any work."""

import json
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.dataset import Dataset, Split
from data.labels import Instance, write_boxes, write_instances
from models.tasks import TaskError, get_task
from models.tasks.contract import Task
from models.tasks.saved_networks import match_classes
from pipeline.metrics import get_scoring
from pipeline.training.loop import Loop

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries behind the tasks
CPU = torch.device("cpu")
OTHER_ORDER = {0: "BAR", 1: "tree", 2: "Square"}  # for the data's square, bar


def _yolo(kind: str, names: dict[int, str], bias: list[float]) -> Any:
    """A network of fixed random weights that is sure enough to be scored; `bias` makes each class likelier."""
    network = deepcopy(_network(kind, len(names)))
    for branch in network.model[-1].cv3:
        branch[-1].bias.data = torch.tensor(bias)
    network.names = names
    return network


@cache
def _network(kind: str, classes: int) -> Any:
    from models.tasks.yolo_library import parts

    torch.manual_seed(0)
    network = parts(kind).model("yolo11n-seg.yaml" if kind == "segment" else "yolo11n.yaml", nc=classes, verbose=False)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.5
    with torch.no_grad():
        for _ in range(8):  # statistics of noise, without which nothing of the image reaches the head
            network.train()(torch.rand(4, 3, 64, 64))
    for branch in network.model[-1].cv3:
        torch.nn.init.normal_(branch[-1].weight, std=0.005)
    return network


def _reordered(network: Any, order: list[int]) -> Any:
    """The same network with its classes in another order."""
    state = {name: value.clone() for name, value in network.state_dict().items()}
    for name, value in state.items():
        if ".cv3." in name and name.split(".")[4] == "2":  # the last layer of the branch of classes
            state[name] = value[order]
    network.load_state_dict(state)
    network.names = {index: OTHER_ORDER[place] for index, place in enumerate(order)}
    return network


def _fit(name: str, dataset: Dataset, work: Path, **settings: Any) -> Task[Any]:
    loop = Loop(name, work, 0, CPU)
    batches: Any = None  # no task here asks for any
    return get_task(name).fit(dataset.split("train"), batches, dataset.info.classes[name], settings, loop)


@pytest.fixture
def clean(make_dataset: Callable[..., Dataset]) -> Dataset:
    return make_dataset()


@pytest.mark.parametrize(("name", "kind"), [("detection", "detect"), ("instance-segmentation", "segment")])
def test_a_frozen_detector_with_classes_in_another_order_scores_the_same(
    name: str, kind: str, clean: Dataset, tmp_path: Path
) -> None:
    split = clean.split("test")
    scores, found = [], []
    for run, order in enumerate(([0, 1, 2], [2, 0, 1])):
        path = tmp_path / f"{run}.pt"
        network = _reordered(_yolo(kind, OTHER_ORDER, [-2.0, -2.0, -2.0]), order)
        torch.save({"model": network, "train_args": {}}, path)
        task = _fit(name, clean, tmp_path, weights=str(path), frozen=True, trust_pickle=True, image_size=64)
        found.append({id: task.predict(split.image(id)) for id in split.ids})
        if run == 0:
            _label_every_third(split, found[0])
        scores.append(
            {
                key: float(value[0])
                for key, value in get_scoring(name).score(found[run], split, task.classes).metrics().items()
            }
        )
    assert {index for row in found[0].values() for index in row.classes.tolist()} == {0, 1}
    for id in split.ids:
        assert found[0][id].classes.tolist() == found[1][id].classes.tolist()
        np.testing.assert_allclose(found[0][id].scores, found[1][id].scores, atol=1e-5)
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    assert 0.1 < scores[0]["mAP50"] < 1


def _label_every_third(split: Split, found: dict[str, Any]) -> None:
    """Make some of what was found the truth, so that there is something to score."""
    for id, row in found.items():
        classes = row.classes[::3]
        if hasattr(row, "masks"):
            instances = [Instance(int(c), counts) for c, counts in zip(classes, row.masks[::3], strict=True)]
            write_instances(split.folder / "instances" / f"{id}.json", instances)
        else:
            height, width = split.image(id).shape[:2]
            corners = row.boxes[::3] / [width, height, width, height]
            centre, size = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
            write_boxes(split.folder / "labels" / f"{id}.txt", np.column_stack([classes, centre, size]))


def test_what_only_the_network_knows_is_dropped(clean: Dataset, tmp_path: Path) -> None:
    torch.save({"model": _yolo("detect", OTHER_ORDER, [-30.0, 3.0, -30.0])}, tmp_path / "trees.pt")
    path = str(tmp_path / "trees.pt")
    task = _fit("detection", clean, tmp_path, weights=path, frozen=True, trust_pickle=True, image_size=64)
    assert len(task.predict(clean.split("test").image("test0")).classes) == 0


def test_further_training_moves_no_weight_faster_than_the_learning_rate(clean: Dataset, tmp_path: Path) -> None:
    """By default ultralytics starts biases at a rate of 0.1, which AdamW makes steps of 0.1: the network is lost."""
    start = _yolo("detect", dict(enumerate(clean.info.classes["detection"])), [-2.0, -2.0])
    torch.save({"model": start}, tmp_path / "a.pt")
    settings = {"weights": str(tmp_path / "a.pt"), "trust_pickle": True, "image_size": 64, "epochs": 4, "batch": 2}
    task = _fit("detection", clean, tmp_path, learning_rate=1e-4, **settings)
    steps = task.training_steps({"model": "", **settings}, len(clean.split("train").ids))
    moved = dict(task.network.named_parameters())
    farthest = max((moved[name] - weight).abs().max().item() for name, weight in start.named_parameters())
    assert 0 < farthest < 3 * steps * 1e-4


def test_a_frozen_network_survives_saving(clean: Dataset, tmp_path: Path) -> None:
    path, out, again = tmp_path / "a.pt", tmp_path / "out", tmp_path / "again"
    torch.save({"model": _yolo("detect", OTHER_ORDER, [-2.0, -2.0, -2.0])}, path)
    task = _fit("detection", clean, tmp_path, weights=str(path), frozen=True, trust_pickle=True, image_size=64)
    image = clean.split("test").image("test0")
    for folder, loaded in ((out, None), (again, out)):  # as a stage loads it, and as somebody's frozen weights
        folder.mkdir()
        task.save(folder)
        assert json.loads((folder / "task.json").read_text())["known"] == list(OTHER_ORDER.values())
        if loaded:
            other = _fit("detection", clean, tmp_path, weights=str(loaded), frozen=True, image_size=64)
        else:
            other = get_task("detection").load(folder, CPU)
        for part in ("boxes", "scores", "classes"):
            assert np.array_equal(getattr(other.predict(image), part), getattr(task.predict(image), part))


@pytest.mark.parametrize("classes", [3, 80])
def test_training_starts_from_weights_with_other_classes(classes: int, clean: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    start = _yolo("detect", {index: f"class {index}" for index in range(classes)}, [-2.0] * classes)
    torch.save({"model": start}, path)
    few = {"image_size": 64, "epochs": 1, "batch": 4, "learning_rate": 1e-7, "mosaic": 0.0}
    task = _fit("detection", clean, tmp_path, weights=str(path), trust_pickle=True, **few)
    assert task.network_classes == task.classes == ["square", "bar"]
    first = "model.0.conv.weight"
    torch.testing.assert_close(task.network.state_dict()[first], start.state_dict()[first], rtol=0, atol=1e-4)
    (tmp_path / "saved").mkdir()
    task.save(tmp_path / "saved")
    saved = get_task("detection").load(tmp_path / "saved", CPU).network.state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in task.network.state_dict().items())


def test_classes_that_do_not_match_are_listed_on_both_sides() -> None:
    assert match_classes("detection", ["Bus", "car"], ["CAR", "bus"]) == [1, 0]
    with pytest.raises(TaskError) as caught:
        match_classes("detection", ["car", "bus"], ["car", "person", "tree"])
    assert "does not know 'person', 'tree'; it has: car, bus; the data have: car, person, tree" in str(caught.value)
    with pytest.raises(TaskError, match="has classes of the same name; it has: car, Car"):
        match_classes("detection", ["car", "Car"], ["car"])


def _smp(folder: Path, architecture: str, classes: int) -> Any:
    import segmentation_models_pytorch as smp

    torch.manual_seed(1)
    network = smp.create_model(architecture, "tu-mobilenetv3_small_050", encoder_weights=None, classes=classes)
    torch.nn.init.normal_(network.segmentation_head[0].weight)
    network.save_pretrained(str(folder))
    return network.eval()


def test_a_frozen_folder_of_smp_with_more_classes_in_another_order(clean: Dataset, tmp_path: Path) -> None:
    network = _smp(tmp_path / "smp", "fpn", 4)
    names = ["bar", "sky", "ground", "square"]
    settings = {"weights": str(tmp_path / "smp"), "frozen": True, "model_classes": names}
    assert {path.name for path in get_task("segmentation").check(settings)} >= {"config.json", "model.safetensors"}
    task = _fit("segmentation", clean, tmp_path, **settings)
    image = clean.split("test").image("test0")
    batch = task._padded(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)  # type: ignore[attr-defined]
    with torch.inference_mode():
        logits = network(batch)[0, :, :48, :64].numpy()
    expected = np.stack([logits[names.index(name)] for name in clean.info.classes["segmentation"]]).argmax(axis=0)
    assert len(np.unique(expected)) > 1
    assert np.array_equal(task.predict(image), expected)
    with pytest.raises(TaskError, match=r"model_classes: .* holds no class names"):
        get_task("segmentation").check({**settings, "model_classes": None})
    with pytest.raises(TaskError, match="do not fit a network of 3 classes"):
        _fit("segmentation", clean, tmp_path, **{**settings, "model_classes": ["bar", "ground", "square"]})


def test_a_frozen_classifier_from_a_saved_folder_in_another_order(clean: Dataset, tmp_path: Path) -> None:
    few = {"model": "resnet10t", "image_size": 32, "steps": 2, "batch": 2}
    task = _fit("classification", clean, tmp_path, **few)
    folder = tmp_path / "saved"
    folder.mkdir()
    task.save(folder)
    swapped = Dataset(clean.folder, clean.info)
    swapped.info.classes["classification"].reverse()
    other = _fit("classification", swapped, tmp_path, weights=str(folder), frozen=True)
    for id in clean.split("test").ids:
        image = clean.split("test").image(id)
        first, second = task.predict(image), other.predict(image)
        assert (second.category, second.score) == (1 - first.category, pytest.approx(first.score))


MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("detection", {"model": "yolo11q.yaml"}, "model: 'yolo11q.yaml': no such file, and not among .* yolo11.yaml"),
    ("detection", {"model": "yolo11n-seg.yaml"}, "not among ultralytics' for this task"),
    ("detection", {"model": "yolo11n.pt"}, r"expected a model YAML .*; a \.pt file belongs in weights"),
    ("detection", {"weights": "none.pt"}, "weights: none.pt: no such file or folder; nothing is downloaded"),
    ("detection", {"weights": "mine.pt"}, "is a pickle, .* set trust_pickle: true"),
    ("detection", {"weights": "mine.txt"}, r"expected a \.pt file of ultralytics .*or a folder"),
    ("detection", {"frozen": True}, "frozen: true needs weights"),
    ("detection", {"epoch": 3}, "unknown setting 'epoch'; there are model, weights"),
    ("instance-segmentation", {"model": "yolo11n.yaml"}, "such as yolo11-seg.yaml"),
    ("segmentation", {"architecture": "unett"}, r"architecture 'unett' .*unetplusplus"),
    ("segmentation", {"encoder": "resnet17"}, r"encoder 'resnet17': .*Wrong encoder name"),
    ("segmentation", {"weights": "folder"}, r"expected imagenet, or a folder with config\.json"),
    ("segmentation", {"weights": "imagenet"}, "weights of 'resnet18' are not in .*, and nothing is downloaded"),
    ("segmentation", {"weights": "imagenet", "encoder": "tu-resnet18"}, "weights of 'tu-resnet18' are not in"),
    ("classification", {"model": "resnet1"}, "timm cannot build 'resnet1' .*; similar: .*resnet18"),
    ("classification", {"weights": "imagenet"}, "weights of 'resnet18' are not in .*, and nothing is downloaded"),
    ("classification", {"frozen": True}, "frozen: true needs weights"),
]


@pytest.mark.parametrize(("name", "settings", "message"), MISTAKES)
def test_a_mistake_is_found_before_any_work(
    name: str, settings: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    monkeypatch.chdir(tmp_path)
    for file in ("mine.pt", "mine.txt", "folder/weights"):
        Path(file).parent.mkdir(exist_ok=True)
        Path(file).write_text("no weights")
    with pytest.raises(TaskError, match=message) as caught:
        get_task(name).check(settings)
    assert f"train_task.{name}" in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_of_another_kind_is_named(clean: Dataset, tmp_path: Path) -> None:
    torch.save({"model": _yolo("segment", OTHER_ORDER, [0.0] * 3)}, tmp_path / "masks.pt")
    (tmp_path / "broken.pt").write_bytes(b"no pickle")
    for file, message in (("masks", "holds a SegmentationModel, expected a DetectionModel"), ("broken", "cannot read")):
        path = str(tmp_path / f"{file}.pt")
        with pytest.raises(TaskError, match=message) as caught:
            _fit("detection", clean, tmp_path, weights=path, frozen=True, trust_pickle=True)
        assert "\n" not in str(caught.value)


def test_the_description_of_a_saved_network_cannot_run_code(clean: Dataset, tmp_path: Path) -> None:
    torch.save({"model": _yolo("detect", OTHER_ORDER, [-2.0, -2.0, -2.0])}, tmp_path / "a.pt")
    path, folder = str(tmp_path / "a.pt"), tmp_path / "saved"
    folder.mkdir()
    _fit("detection", clean, tmp_path, weights=path, frozen=True, trust_pickle=True).save(folder)
    content = json.loads((folder / "task.json").read_text())
    content["model"]["activation"] = f"__import__('pathlib').Path({str(tmp_path / 'ran')!r}).touch()"
    (folder / "task.json").write_text(json.dumps(content))
    with pytest.raises(TaskError, match="not a saved detection network"):
        _fit("detection", clean, tmp_path, weights=str(folder), frozen=True)
    assert not (tmp_path / "ran").exists()


def test_published_weights_come_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants
    from safetensors.torch import save_file
    from segmentation_models_pytorch.encoders import encoders, get_encoder

    encoder = get_encoder("resnet18", weights=None)
    where = encoders["resnet18"]["pretrained_settings"]["imagenet"]
    folder = tmp_path / f"models--{where['repo_id'].replace('/', '--')}" / "snapshots" / where["revision"]
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    save_file(encoder.state_dict(), folder / "model.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert get_task("segmentation").check({"encoder": "resnet18", "weights": "imagenet"}) == []
