"""Restorers as ONNX files: the same contract and the same numbers as with PyTorch."""

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML
from test_restorers import SETTINGS
from torch import nn

from data.dataset import Split
from models.restorers import CHECKPOINT, RESTORERS, RestorerError, build_restorer, load_restorer
from models.restorers.contract import Restorer, restore_tiled
from models.restorers.onnx_file import ENTRY, export_onnx, load_onnx
from pipeline.commands.deploy import check_parity

ROOT = Path(__file__).parents[1]
CAMVID = ROOT.parent / "shared" / "camvid"
SIZES = [(32, 32), (37, 61), (33, 130), (5, 100), (1, 1), (96, 70)]
CLOSE = 1e-5


def _restorer(name: str, folder: Path, settings: dict[str, Any] = SETTINGS) -> Restorer:
    """Far from its start, so that every path carries a signal."""
    torch.manual_seed(0)
    restorer = _foreign(folder) if name == CHECKPOINT else build_restorer(name, settings[name])
    for parameter in restorer.parameters():
        deviation = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.2
        torch.nn.init.normal_(parameter, std=deviation)
    return restorer.eval()


def _foreign(folder: Path) -> Restorer:
    """A small checkpoint of another project."""
    from spandrel.architectures.NAFNet import NAFNet

    network = NAFNet(width=8, enc_blk_nums=[1], middle_blk_num=1, dec_blk_nums=[1])
    torch.save(network.state_dict(), folder / "foreign.pth")
    return load_restorer(folder / "foreign.pth")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Restorer, Path]]:
    """Exports each restorer once for all tests."""

    def export(name: str) -> tuple[Restorer, Path]:
        folder = tmp_path_factory.mktemp(name)
        restorer = _restorer(name, folder)
        export_onnx(restorer, folder / "restorer.onnx")
        return restorer, folder / "restorer.onnx"

    return cache(export)


@pytest.mark.parametrize("name", RESTORERS)
def test_an_onnx_file_takes_every_size_and_number_of_images(
    name: str, exported: Callable[[str], tuple[Restorer, Path]]
) -> None:
    restorer, file = exported(name)
    found = load_onnx(file)
    assert (found.name, found.settings, found.multiple) == (restorer.name, restorer.settings, restorer.multiple)
    for number, size in enumerate(SIZES, start=1):
        images = torch.rand(1 + number % 3, 3, *size)
        with torch.inference_mode():
            expected, alone, padded = restorer(images), found.network(images), found(images)
        assert (expected - images).abs().max() > 0.05  # something is restored
        torch.testing.assert_close(alone, expected, atol=CLOSE, rtol=0)
        torch.testing.assert_close(padded, expected, atol=CLOSE, rtol=0)
    images = torch.rand(1, 3, 70, 90)
    with torch.inference_mode():
        torch.testing.assert_close(
            restore_tiled(found, images, 48, 16), restore_tiled(restorer, images, 48, 16), atol=CLOSE, rtol=0
        )


def test_the_same_restorer_gives_the_same_bytes(
    exported: Callable[[str], tuple[Restorer, Path]], tmp_path: Path
) -> None:
    restorer, file = exported("unet")
    export_onnx(restorer, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == file.read_bytes()


class _Foreign(nn.Module):
    """What a checkpoint of another project may ask for."""

    def __init__(self, **asked: Any) -> None:
        super().__init__()
        for name, value in asked.items():
            setattr(self, name, value)
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.layer.weight.mean() > images.mean():  # no graph holds that
            return images
        return self.layer(images)


class _OneByOne(_Foreign):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert len(images) == 1 and min(images.shape[-2:]) >= 24
        return self.layer(images)


class _Extended(nn.Module):
    """As models.restorers.checkpoint extends small images."""

    def __init__(self) -> None:
        super().__init__()
        self.network = _OneByOne()
        self.takes_batches, self.minimum, self.square = False, 24, False

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[-2:]
        padding = (0, max(24 - width, 0), 0, max(24 - height, 0))
        padded = nn.functional.pad(images, padding, mode="replicate")
        return torch.cat([self.network(image) for image in padded.split(1)])[..., :height, :width]


def test_a_network_that_takes_one_large_image_at_a_time(tmp_path: Path) -> None:
    restorer = Restorer(_Extended(), "checkpoint", {"architecture": "OneByOne"}, 4).eval()
    export_onnx(restorer, tmp_path / "restorer.onnx")
    found = load_onnx(tmp_path / "restorer.onnx")
    for size in [(40, 31), (7, 60), (3, 2)]:
        images = torch.rand(2, 3, *size)
        with torch.inference_mode():
            torch.testing.assert_close(found(images), restorer(images), atol=CLOSE, rtol=0)
            torch.testing.assert_close(found.network(images), restorer(images), atol=CLOSE, rtol=0)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (_Foreign(square=True), "takes square images only"),
        (_Foreign(), "cannot be exported to ONNX for images of every size"),
    ],
)
def test_what_cannot_be_exported_is_said_in_one_line(network: nn.Module, said: str, tmp_path: Path) -> None:
    restorer = Restorer(network, "checkpoint", {"architecture": "Odd"}, 4).eval()
    with pytest.raises(RestorerError, match=said) as caught:
        export_onnx(restorer, tmp_path / "restorer.onnx")
    assert "\n" not in str(caught.value) and "checkpoint (Odd)" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_files_that_are_no_restorers(tmp_path: Path) -> None:
    from onnx import helper, parser

    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    other = parser.parse_model('<ir_version: 10, opset_import: ["": 20]> f (float[N] x) => (float[N] y) { y = Abs(x) }')
    for name, said in (("other", None), ("odd", "no JSON"), ("list", "[]")):
        if said:
            helper.set_model_props(other, {ENTRY: said})
        (tmp_path / f"{name}.onnx").write_bytes(other.SerializeToString())
    for name, said in (
        ("none.onnx", "no such ONNX file"),
        ("broken.onnx", "not a readable"),
        ("other.onnx", "pipeline.commands.deploy"),
        ("odd.onnx", "pipeline.commands.deploy"),
        ("list.onnx", "pipeline.commands.deploy"),
    ):
        with pytest.raises(RestorerError, match=said):
            load_onnx(tmp_path / name)


@pytest.mark.slow
@pytest.mark.skipif(not CAMVID.is_dir(), reason="needs CamVid beside the project")
@pytest.mark.parametrize("name", SETTINGS)
def test_real_photos_at_full_size(name: str, tmp_path: Path) -> None:
    photos = sorted((CAMVID / "val").glob("*.png"))[:2]
    (tmp_path / "images").mkdir()
    for photo in photos:
        shutil.copy(photo, tmp_path / "images")
    restorer = _restorer(name, tmp_path, YAML(typ="safe").load(ROOT / "params.yaml")["train_restorer"])
    export_onnx(restorer, tmp_path / "restorer.onnx")
    split = Split(tmp_path, tuple(photo.stem for photo in photos))
    found = check_parity(restorer, load_onnx(tmp_path / "restorer.onnx"), split)
    assert max(one.height for one in found) > 500 and max(one.difference for one in found) < 1e-4
    print(f"{name}: {[(one.width, one.height, one.images, one.difference) for one in found]}")
