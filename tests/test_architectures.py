"""Every architecture of segmentation-models-pytorch, on images of sizes that no network likes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch

from models.tasks import TaskError
from models.tasks.segmentation import Segmentation
from models.tasks.smp_networks import build_network

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries behind the task
CPU = torch.device("cpu")
CHANNELS = [64, 48, 32, 24, 16]  # of the decoder, coarse to fine
# The library's own encoder where it is dilated, and in one more architecture; a smaller one elsewhere.
ENCODERS = dict.fromkeys(("unet", "deeplabv3", "deeplabv3plus", "pan"), "resnet18")
ENCODERS |= {"segformer": "mit_b0", "dpt": "tu-vit_tiny_patch16_224"}


@pytest.mark.parametrize("architecture", [*smp.MODEL_ARCHITECTURES_MAPPING, "yolo26n-sem.yaml"])
def test_any_size_features_and_storage(architecture: str, tmp_path: Path) -> None:
    encoder = ENCODERS.get(architecture, "tu-test_resnet")
    task = _task(architecture, encoder)
    for height, width in ((45, 70), (33, 97)):
        image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        assert task.predict(image).shape == (height, width)
    images = torch.rand(1, 3, 40, 56, requires_grad=True)
    maps = task.features(images)
    assert len(maps) >= 3 and all(layer.ndim == 4 for layer in maps)
    sum(layer.square().mean() for layer in maps).backward()  # type: ignore[union-attr]
    assert images.grad is not None and images.grad.abs().max() > 0
    task.save(tmp_path)
    assert np.array_equal(Segmentation.load(tmp_path, CPU).predict(image), task.predict(image))


@pytest.mark.parametrize("encoder", ["efficientnet-b0", "tu-convnext_atto", "mobilenet_v2", "mit_b0"])
def test_encoders_of_other_kinds(encoder: str) -> None:
    assert _task("unet", encoder).predict(np.zeros((50, 41, 3), np.uint8)).shape == (50, 41)


def test_arguments_of_the_library_reach_the_network_and_are_stored(tmp_path: Path) -> None:
    whole, narrow = (
        _task("unet", "tu-mobilenetv3_small_050", **arguments) for arguments in ({}, {"decoder_channels": CHANNELS})
    )
    assert _weights(narrow) < _weights(whole) / 3
    narrow.save(tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (45, 70, 3), dtype=np.uint8)
    assert np.array_equal(Segmentation.load(tmp_path, CPU).predict(image), narrow.predict(image))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 4}, "'classes' has a key of its own"),
        ({"decoder_channels": [8, 8]}, "cannot build architecture 'unet'"),
        ({"depth": 3}, "cannot build architecture 'unet'.*depth"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message) as raised:
        Segmentation.check({"architecture": "unet", "encoder": "resnet18", "arguments": arguments})
    assert "\n" not in str(raised.value)


def test_arguments_of_a_yolo_are_refused() -> None:
    section = {"architecture": "yolo26n-sem.yaml", "arguments": {"decoder_channels": CHANNELS}}
    with pytest.raises(TaskError, match=r"arguments: yolo26n-sem.yaml takes none; remove decoder_channels"):
        Segmentation.check(section)


def _weights(task: Segmentation) -> int:
    return sum(weight.numel() for weight in task.network.parameters())


def _task(architecture: str, encoder: str, **arguments: Any) -> Segmentation:
    section: dict[str, Any] = {"architecture": architecture, "encoder": encoder, "arguments": arguments}
    assert Segmentation.check(section) == []
    torch.manual_seed(0)
    description = Segmentation.parse_settings(section).network
    return Segmentation(build_network(description, 3, None), ["ground", "square", "bar"], description, CPU)
