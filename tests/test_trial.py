"""Networks from elsewhere are tried before anything is trained: the forms in which people have them."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.tasks import TaskError, get_task
from models.tasks.detection import Detection
from models.tasks.imagenet import IMAGENET_MEAN, IMAGENET_STD, Normalisation, pretrained_normalisation
from models.tasks.instance_segmentation import InstanceSegmentation
from models.tasks.segmentation import Segmentation
from models.tasks.smp_networks import start_network
from models.tasks.trial import try_weights

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries behind the tasks
CPU = torch.device("cpu")
ASSETS = Path(__file__).parents[1].parent / "shared" / "assets"
needs_assets = pytest.mark.skipif(not ASSETS.is_dir(), reason="../shared/assets is not here")
NAMES = [f"class{index}" for index in range(12)]
YOLO = {"frozen": True, "trust_pickle": True, "image_size": 160}  # 70x90 becomes 128x160, and no square


@pytest.fixture(scope="module")
def detector() -> Any:
    """A network of twelve classes, each with another score, so that a wrong order shows."""
    from models.tasks.yolo_library import parts

    torch.manual_seed(0)
    network = parts("detect").model("yolo11n.yaml", nc=12, verbose=False)
    for branch in network.model[-1].cv3:
        branch[-1].bias.data = torch.linspace(-4, -1, 12)
    network.names = dict(enumerate(NAMES))
    return network


def _renamed(network: Any, names: Any) -> dict[str, Any]:
    network.names = names
    return {"model": network}


def _trained_on(network: Any, model: str = "yolo11n.yaml") -> Any:
    """As the library starts a training on other classes: the head keeps the width of the 80 classes before."""
    before = type(network)(model, nc=80, verbose=False)
    successor = type(network)(model, nc=12, verbose=False)
    successor.load(before, verbose=False)
    head = successor.model[-1]
    for branch in (*head.cv3, *getattr(head, "one2one_cv3", ())):
        assert branch[-1].in_channels == 80
        branch[-1].bias.data = torch.linspace(-4, -1, 12)
    return _renamed(successor, dict(enumerate(NAMES)))["model"]


CHECKPOINTS: dict[str, Callable[[Any], Any]] = {
    "names as a list": lambda network: _renamed(network, list(NAMES)),
    "numbers as texts": lambda network: _renamed(network, json.loads(json.dumps(dict(enumerate(NAMES))))),
    "in another order": lambda network: _renamed(network, dict(reversed(list(enumerate(NAMES))))),
    "half precision": lambda network: {"model": network.half()},
    "unstripped": lambda network: {"model": None, "ema": network.half(), "epoch": 3, "optimizer": {"state": {}}},
    "fused": lambda network: {"model": network.eval().fuse(verbose=False)},
    "trained on from 80 classes": lambda network: {"model": _trained_on(network)},
    "fused after that": lambda network: {"model": _trained_on(network).eval().fuse(verbose=False)},
    "trained on, of two heads": lambda network: {"model": _trained_on(network, "yolo26n.yaml")},
    "fused, of two heads": lambda network: {"model": _trained_on(network, "yolo26n.yaml").eval().fuse(verbose=False)},
}


@pytest.mark.parametrize("form", CHECKPOINTS)
def test_a_detector_in_any_form_predicts_as_ultralytics_does(form: str, detector: Any, tmp_path: Path) -> None:
    torch.save(CHECKPOINTS[form](deepcopy(detector)), tmp_path / "w.pt")
    section = {"weights": str(tmp_path / "w.pt"), **YOLO}
    assert try_weights(Detection, section) == NAMES
    wanted = ["class3", "class11"]
    task = Detection.load_weights(section, wanted, CPU)
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    predicted, library = task.predict(image), task.library_prediction(tmp_path / "w.pt", image)
    assert library is not None and len(predicted.scores) and set(library.classes.tolist()) == {1}  # class11
    np.testing.assert_allclose(predicted.boxes, library.boxes, atol=1e-3)
    assert predicted.classes.tolist() == library.classes.tolist()


def test_what_ultralytics_predicts_otherwise_is_refused(
    detector: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"model": detector}, tmp_path / "w.pt")
    monkeypatch.setattr(Detection, "load", lambda folder, device: _swapped(folder, device, load))
    load = Detection.__dict__.get("load", Detection.load)
    with pytest.raises(TaskError, match="the network predicts something else after it is saved than here"):
        try_weights(Detection, {"weights": str(tmp_path / "w.pt"), **YOLO})


def test_a_network_of_masks_without_settings_of_its_training_is_compared_as_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save({"model": _library_model("yolo11n-seg.yaml")}, tmp_path / "w.pt")
    section = {"weights": str(tmp_path / "w.pt"), **YOLO}
    assert try_weights(InstanceSegmentation, section) == ["car", "bus"]


def _swapped(folder: Path, device: torch.device, load: Any) -> Any:
    from models.tasks.yolo import YoloTask

    task = YoloTask.load.__func__(Detection, folder, device)  # type: ignore[attr-defined]
    for branch in task.network.model[-1].cv3:
        branch[-1].bias.data = branch[-1].bias.data.flip(0)
    return task


def _library_model(name: str, **settings: Any) -> Any:
    from ultralytics.nn.tasks import DetectionModel, PoseModel, RTDETRDetectionModel, SegmentationModel

    kinds = {"seg": SegmentationModel, "pose": PoseModel, "rtdetr": RTDETRDetectionModel}
    kind = next((kinds[word] for word in kinds if word in name), DetectionModel)
    model = kind(name, nc=2, verbose=False, **settings)
    model.names = {0: "car", 1: "bus"}
    return model


DETECTORS: dict[str, tuple[Callable[[], Any], str]] = {
    "one channel": (
        lambda: {"model": _library_model("yolo11n.yaml", ch=1)},
        r"takes images of 1 channel\(s\), but those here have 3 \(RGB\)",
    ),
    "masks": (
        lambda: {"model": _library_model("yolo11n-seg.yaml")},
        "holds a SegmentationModel, expected a DetectionModel. It belongs to the task instance-segmentation",
    ),
    "poses": (lambda: {"model": _library_model("yolo11n-pose.yaml")}, "holds a PoseModel.*Choose another file"),
    "weights alone": (lambda: _library_model("yolo11n.yaml").state_dict(), r"holds weights without their network\. Sa"),
    "bare module": (lambda: _library_model("yolo11n.yaml"), r"holds a Sequential.*YOLO\(\.\.\.\)\.save"),
    "too few names": (
        lambda: _renamed(_library_model("yolo11n.yaml"), {0: "car"}),
        r"has 2 classes, but its file names \['car'\]\. Set the names in the file",
    ),
}


@pytest.mark.parametrize("kind", DETECTORS)
def test_what_is_no_detector_is_one_line_before_any_work(kind: str, tmp_path: Path) -> None:
    write, message = DETECTORS[kind]
    torch.save(write(), tmp_path / "w.pt")
    with pytest.raises(TaskError, match=message) as caught:
        try_weights(Detection, {"weights": str(tmp_path / "w.pt"), **YOLO})
    text = str(caught.value)
    assert text.startswith(f"train_task.detection.weights: {tmp_path / 'w.pt'}: ") and "\n" not in text


def test_exports_pointers_and_fused_starts_are_refused(detector: Any, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"none\.onnx: no such file"):
        get_task("detection").check({"weights": str(tmp_path / "none.onnx"), **YOLO})
    (tmp_path / "w.onnx").write_bytes(b"\x08\x07")
    with pytest.raises(TaskError, match=r"of an export, such as \.onnx, the file that it was made from"):
        get_task("detection").check({"weights": str(tmp_path / "w.onnx"), **YOLO})
    (tmp_path / "pointer.pt").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(TaskError, match="is a pointer of Git LFS"):
        try_weights(Detection, {"weights": str(tmp_path / "pointer.pt"), **YOLO})
    torch.save({"model": deepcopy(detector).eval().fuse(verbose=False)}, tmp_path / "fused.pt")
    with pytest.raises(TaskError, match=r"training cannot start from it\. Give the file before it was fused"):
        try_weights(Detection, {"weights": str(tmp_path / "fused.pt"), **YOLO, "frozen": False})


@needs_assets
@pytest.mark.parametrize("name", ["yolo11n.pt", "yolov8n.pt"])
def test_published_detectors_are_tried(name: str) -> None:
    known = try_weights(Detection, {"weights": str(ASSETS / "detectors" / name), **YOLO})
    assert len(known) == 80 and known[2] == "car"


TINY = {"encoder_name": "tu-test_efficientnet", "encoder_weights": None}


def _smp(folder: Path, **settings: Any) -> Any:
    import segmentation_models_pytorch as smp

    torch.manual_seed(1)
    network = smp.Unet(**{**TINY, "classes": 2, **settings})
    torch.nn.init.normal_(network.segmentation_head[0].weight)
    network.save_pretrained(str(folder))
    return network.eval()


def _frozen(path: Path, *names: str, **settings: Any) -> dict[str, Any]:
    return {"weights": str(path), "frozen": True, "model_classes": names, **settings}


FOREIGN = {"architecture": "unet", "encoder": "tu-test_efficientnet"}
MEAN = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
WANTED = {  # the settings of a network that was trained on such pixels -> what its images must be
    "0 to 1": ({"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}, lambda rgb: rgb),
    "-1 to 1": ({"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}, lambda rgb: rgb * 2 - 1),
    "0 to 255": ({"mean": (0.0, 0.0, 0.0), "std": (1 / 255,) * 3}, lambda rgb: rgb * 255),
    "BGR": ({"channel_order": "bgr", "mean": (0.1, 0.2, 0.3), "std": (1.0, 1.0, 1.0)}, lambda rgb: rgb.flip(1) - MEAN),
}


@pytest.mark.parametrize("pixels", WANTED)
def test_a_network_gets_the_pixels_that_it_was_trained_on(pixels: str, tmp_path: Path) -> None:
    settings, expected = WANTED[pixels]
    network = _smp(tmp_path / "net")
    section = _frozen(tmp_path / "net", "road", "sky", **settings)
    assert try_weights(Segmentation, section) == ["road", "sky"]
    task = Segmentation.load_weights(section, ["sky", "road"], CPU)
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    rgb = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    theirs = expected(rgb)
    with torch.no_grad():
        mask = network(theirs)[0].argmax(dim=0).numpy()
    (tmp_path / "saved").mkdir()
    task.save(tmp_path / "saved")
    for one in (task, Segmentation.load(tmp_path / "saved", CPU)):
        assert np.array_equal(one.predict(image), 1 - mask)  # the classes of the data are the other way round
    with pytest.raises(AssertionError):  # ImageNet's pixels give something else
        assert np.array_equal(
            Segmentation.load_weights(_frozen(tmp_path / "net", "road", "sky"), ["sky", "road"], CPU).predict(image),
            1 - mask,
        )


def test_the_normalisation_is_read_where_the_files_say_it(tmp_path: Path) -> None:
    import albumentations as A

    def described(folder: Path) -> Normalisation:
        task = Segmentation.load_weights(_frozen(folder, "a", "b"), None, CPU)
        return Normalisation.read(task.description.get("input"))

    _smp(tmp_path / "plain")
    assert described(tmp_path / "plain") == (IMAGENET_MEAN, IMAGENET_STD, "rgb")
    _smp(tmp_path / "own")
    transform = A.Compose([A.Resize(64, 64), A.Normalize(mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5))])
    transform.save_pretrained(str(tmp_path / "own"))
    assert described(tmp_path / "own") == ((0.1, 0.2, 0.3), (0.5, 0.5, 0.5), "rgb")
    _smp(tmp_path / "scaled")
    A.Compose([A.Normalize(mean=(0, 0, 0), std=(1, 1, 1), max_pixel_value=1.0)]).save_pretrained(
        str(tmp_path / "scaled")
    )
    assert described(tmp_path / "scaled").std == pytest.approx((1 / 255,) * 3)
    _smp(tmp_path / "image")
    A.Compose([A.Normalize(normalization="image")]).save_pretrained(str(tmp_path / "image"))
    with pytest.raises(TaskError, match=r"normalised by their own statistics \('image'\), which this task cannot do"):
        described(tmp_path / "image")
    _smp(tmp_path / "pretrained")  # as after training from published weights
    config = json.loads((tmp_path / "pretrained" / "config.json").read_text())
    config |= {"encoder_weights": True, "encoder_name": "tu-tf_efficientnet_lite0"}
    (tmp_path / "pretrained" / "config.json").write_text(json.dumps(config))
    from models.tasks.smp_files import read_description

    description, _ = read_description(tmp_path / "pretrained", {})
    assert description["input"]["mean"] == (0.5, 0.5, 0.5)
    assert pretrained_normalisation("tu-resnet18").mean == IMAGENET_MEAN
    assert pretrained_normalisation("mobilenet_v2") == Normalisation()


@pytest.mark.parametrize("activation", [None, "sigmoid"])
@pytest.mark.parametrize("names", [("road",), ("background", "road")])
def test_one_output_is_a_network_of_two_classes(activation: str | None, names: tuple[str, ...], tmp_path: Path) -> None:
    network = _smp(tmp_path / "net", classes=1, activation=activation)
    section = _frozen(tmp_path / "net", *names, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    try_weights(Segmentation, section)
    task = Segmentation.load_weights(section, ["background", "road"], CPU)
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    with torch.no_grad():
        output = network(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)[0, 0]
    road = (output > (0.5 if activation else 0.0)).numpy()
    assert 0 < road.mean() < 1 and np.array_equal(task.predict(image) == 1, road)
    assert len(task.features(torch.rand(1, 3, 64, 64))) > 2
    (tmp_path / "saved").mkdir()
    task.save(tmp_path / "saved")
    assert np.array_equal(Segmentation.load(tmp_path / "saved", CPU).predict(image), task.predict(image))
    with pytest.raises(TaskError, match="has one output, for two classes"):
        Segmentation.load_weights(_frozen(tmp_path / "net", "road"), ["background", "road", "sky"], CPU)


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module._orig_mod."])
def test_weights_alone_need_the_settings_of_their_network(prefix: str, tmp_path: Path) -> None:
    network = _smp(tmp_path / "net")
    state = {f"{prefix}{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 9}, tmp_path / "w.ckpt")
    section = _frozen(tmp_path / "w.ckpt", "a", "b", **FOREIGN)
    get_task("segmentation").check(section)
    assert try_weights(Segmentation, section) == ["a", "b"]
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    masks = [Segmentation.load_weights({**section, "weights": str(tmp_path / w)}, None, CPU) for w in ("w.ckpt", "net")]
    assert np.array_equal(masks[0].predict(image), masks[1].predict(image))
    with pytest.raises(TaskError, match="the weights do not fit architecture 'fpn' with encoder"):
        Segmentation.load_weights({**section, "architecture": "fpn"}, None, CPU)
    start, _ = start_network(FOREIGN, str(tmp_path / "w.ckpt"), 5)  # another number of classes
    name = "encoder.model.conv_stem.weight"
    assert torch.equal(start.state_dict()[name], network.state_dict()[name])


@pytest.mark.parametrize(
    ("settings", "names", "message"),
    [
        ({"in_channels": 4}, ("a", "b"), r"takes images of 4 channel\(s\), but those here have 3 \(RGB\)"),
        ({"in_channels": 1}, ("a", "b"), r"takes images of 1 channel\(s\)"),
        ({"classes": 3}, ("a", "b"), r"model_classes: 2 names, but .*they have 3 output\(s\)"),
    ],
)
def test_a_segmenter_that_cannot_be_used_is_one_true_line(
    settings: dict[str, Any], names: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    _smp(tmp_path / "net", **settings)
    with pytest.raises(TaskError, match=message) as caught:
        try_weights(Segmentation, _frozen(tmp_path / "net", *names))
    assert "\n" not in str(caught.value)


def test_other_forms_of_save_pretrained(tmp_path: Path) -> None:
    _smp(tmp_path / "labels", aux_params={"classes": 3, "pooling": "avg"})
    _smp(tmp_path / "softmax", activation="softmax2d")
    for name in ("labels", "softmax"):
        assert try_weights(Segmentation, _frozen(tmp_path / name, "a", "b")) == ["a", "b"]
    network = _smp(tmp_path / "nan")
    state = network.state_dict()
    state["segmentation_head.0.bias"][0] = float("nan")
    save_file(state, tmp_path / "nan" / "model.safetensors")
    with pytest.raises(TaskError, match=r"the weights 'segmentation_head\.0\.bias' are not finite"):
        try_weights(Segmentation, _frozen(tmp_path / "nan", "a", "b"))


def test_encoder_weights_from_a_file(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(3)
    full = timm.create_model("convnext_atto").state_dict()  # timm flattens the names of its stages
    save_file(full, tmp_path / "encoder.safetensors")
    description = {"architecture": "unet", "encoder": "tu-convnext_atto"}
    network, _ = start_network(description, None, 2, str(tmp_path / "encoder.safetensors"))
    state = network.state_dict()
    assert torch.equal(state["encoder.model.stem_0.weight"], full["stem.0.weight"])
    name = "stages.3.blocks.1.mlp.fc1.weight"
    assert torch.equal(state[f"encoder.model.{name.replace('stages.', 'stages_')}"], full[name])
    section = {"encoder": "tu-convnext_atto", "encoder_weights": str(tmp_path / "encoder.safetensors")}
    assert get_task("segmentation").check(section) == [tmp_path / "encoder.safetensors"]
    with pytest.raises(TaskError, match=r"lacks \d+ of the \d+ weights of the encoder 'tu-resnet18' \(conv1\.weight,"):
        get_task("segmentation").check({**section, "encoder": "tu-resnet18"})
    with pytest.raises(TaskError, match=r"train_task\.segmentation\.encoder_weights: none\.pth: cannot be read"):
        get_task("segmentation").check({**section, "encoder_weights": "none.pth"})


@needs_assets
@pytest.mark.parametrize(
    ("encoder", "file", "mean"),
    [
        ("mobilenet_v2", "mobilenet_v2", IMAGENET_MEAN),
        ("tu-tf_efficientnet_lite0", "tf_efficientnet_lite0", (0.5, 0.5, 0.5)),
        ("timm-tf_efficientnet_lite0", "tf_efficientnet_lite0", (0.5, 0.5, 0.5)),
    ],
)
def test_published_encoders_are_read_from_their_files(encoder: str, file: str, mean: tuple[float, ...]) -> None:
    description = {"architecture": "unet", "encoder": encoder}
    weights = str(ASSETS / "encoders" / f"{file}.safetensors")
    _, described = start_network(description, None, 2, weights)
    assert described["input"]["mean"] == mean
