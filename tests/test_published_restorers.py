"""SCI, IAT and AOD-Net: read from the weights that their authors published, with the same result as their code."""

from pathlib import Path

import pytest
import torch
from torch import nn

from models.restorers import RestorerError, load_restorer, save_restorer
from models.restorers.aod_net import AodNet
from models.restorers.checkpoint import PUBLISHED, try_restorer
from models.restorers.sci import Sci

ASSETS = Path(__file__).parents[1].parent / "shared" / "assets" / "restorers"
needs_assets = pytest.mark.skipif(not ASSETS.is_dir(), reason="../shared/assets is not here")
PATTERN = (torch.arange(3 * 12 * 20).reshape(1, 3, 12, 20) % 17) / 160

# Computed with the authors' code: the RGB values at row 5, column 7 of the restored PATTERN, and its mean.
# vis-opt-group/SCI@9d28a3f, MayankSingal/PyTorch-Image-Dehazing@dc26717,
# cuiziteng/Illumination-Adaptive-Transformer@c764722
GOLDEN = {
    "sci_medium.pt": ("SCI", [0.15074, 0.21801, 0.30152], 0.231239),
    "dehazer.pth": ("AOD-Net", [0.0, 0.0, 0.01956], 0.262053),
    "iat_lol_v1.pth": ("IAT", [0.84724, 0.86756, 0.8944], 0.876426),
}


@needs_assets
@pytest.mark.parametrize("name", GOLDEN)
def test_published_weights_restore_as_the_authors_code_does(name: str, tmp_path: Path) -> None:
    architecture, pixel, mean = GOLDEN[name]
    restorer = try_restorer(ASSETS / name)
    with torch.no_grad():
        restored = restorer(PATTERN)
    assert restorer.settings == {"architecture": architecture}
    assert restored[0, :, 5, 7].tolist() == pytest.approx(pixel, abs=1e-4)
    assert float(restored.mean()) == pytest.approx(mean, abs=1e-4)
    save_restorer(tmp_path / "saved.safetensors", restorer)
    with torch.no_grad():
        assert torch.equal(load_restorer(tmp_path / "saved.safetensors")(PATTERN), restored)


@needs_assets
def test_dncnn_is_tried_and_a_conditioned_network_is_refused() -> None:
    assert try_restorer(ASSETS / "dncnn_color_blind.pth").settings == {"architecture": "DnCNN"}
    with pytest.raises(RestorerError, match=r"12 to 12 channels\)\. Choose another file"):
        try_restorer(ASSETS / "ffdnet_color.pth")


@pytest.mark.parametrize("name", PUBLISHED)
def test_weights_are_recognised_by_their_names_and_any_size_is_restored(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network: nn.Module = PUBLISHED[name]()
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": {**state, "module.training_only.weight": torch.zeros(3)}}, tmp_path / "w.pth")
    restorer = try_restorer(tmp_path / "w.pth")
    images = torch.rand(2, 3, 33, 45)
    with torch.no_grad():
        assert restorer.settings["architecture"] == name
        torch.testing.assert_close(restorer(images), network.eval()(images).clamp(0, 1))
    leaf = images.clone().requires_grad_()
    restorer.train()(leaf).sum().backward()
    assert leaf.grad is not None and torch.isfinite(leaf.grad).all()


def test_the_equations() -> None:
    images = torch.rand(1, 3, 8, 8)
    hazy = AodNet()
    nn.init.zeros_(hazy.e_conv5.weight)
    nn.init.constant_(hazy.e_conv5.bias, 2.0)  # K = 2 everywhere
    torch.testing.assert_close(hazy(images), (2 * images - 2 + 1).clamp(min=0))
    dark = Sci().eval()
    for parameter in dark.enhance.out_conv.parameters():
        nn.init.zeros_(parameter)  # an illumination of one half above the image
    torch.testing.assert_close(dark(images), images / (images + 0.5).clamp(max=1))


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    network = AodNet()
    nn.init.constant_(network.e_conv5.bias, float("nan"))
    torch.save(network.state_dict(), tmp_path / "nan.pth")
    with pytest.raises(RestorerError, match=r"nan\.pth: the restored image is not finite"):
        try_restorer(tmp_path / "nan.pth")
