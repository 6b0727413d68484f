"""The contract of every restorer in the table; `checkpoint` stands for another project's file.

A new restorer needs a line in SETTINGS: a small network.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from models.restorers import CHECKPOINT, RESTORERS, RestorerError, build_restorer, load_restorer, save_restorer
from models.restorers.contract import Restorer

SETTINGS: dict[str, dict[str, Any]] = {
    "unet": {"channels": [4, 6, 8, 8], "blocks": 1},
    "nafnet": {"width": 8, "encoder_blocks": [1, 1], "middle_blocks": 1, "decoder_blocks": [1, 1]},
    "restormer": {"width": 8, "blocks": [1, 1, 1], "heads": [1, 2, 4], "refinement": 1, "expansion": 2.0},
    "retinexformer": {"features": 8, "stages": 1, "blocks": [1, 1, 1]},
}
SIZES = [(32, 32), (37, 61), (33, 330), (5, 200), (1, 1)]

each = pytest.mark.parametrize("name", RESTORERS)


@pytest.fixture
def start(tmp_path: Path) -> Any:
    """Builds an untrained restorer; for `checkpoint`, one from another project's file."""

    def do(name: str) -> Restorer:
        torch.manual_seed(0)
        if name == CHECKPOINT:
            return build_restorer(name, {"weights": str(_foreign(tmp_path / "foreign.pth"))})
        return build_restorer(name, SETTINGS[name])

    return do


@pytest.fixture
def build(start: Any) -> Any:
    """Builds a restorer far from its start, so that every path carries a signal."""

    def do(name: str) -> Restorer:
        restorer: Restorer = start(name)
        for parameter in restorer.parameters():
            deviation = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.2
            torch.nn.init.normal_(parameter, std=deviation)
        return restorer

    return do


def _foreign(path: Path) -> Path:
    """A small checkpoint of another project."""
    from spandrel.architectures.MixDehazeNet import MixDehazeNet

    torch.save({"state_dict": MixDehazeNet(embed_dims=[8, 16, 24, 16, 8], depths=[1] * 5).state_dict()}, path)
    return path


@each
@pytest.mark.parametrize("size", SIZES)
def test_any_size_in_range(build: Any, name: str, size: tuple[int, int]) -> None:
    restored = build(name).eval()(torch.rand(2, 3, *size))
    assert restored.shape == (2, 3, *size)
    assert restored.min() >= 0 and restored.max() <= 1


@each
def test_batch_is_one_by_one_and_eval_is_deterministic(build: Any, name: str) -> None:
    restorer = build(name).eval()
    images = torch.rand(3, 3, 24, 40)
    together = restorer(images)
    assert torch.equal(together, restorer(images))
    alone = torch.cat([restorer(image[None]) for image in images])
    assert torch.allclose(together, alone, atol=1e-5)


@each
def test_gradient_reaches_weights_and_input_also_where_the_output_leaves_the_range(build: Any, name: str) -> None:
    restorer = build(name).train()
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    restored = restorer(images)
    assert restored.max() > 1 or restored.min() < 0
    restored.square().sum().backward()
    without = [
        key for key, parameter in restorer.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    assert not without
    assert images.grad is not None and images.grad.abs().amin(dim=1).gt(0).all()


@each
def test_save_and_load_are_exact(build: Any, name: str, tmp_path: Path) -> None:
    restorer = build(name).eval()
    images = torch.rand(1, 3, 20, 20)
    save_restorer(tmp_path / "r.safetensors", restorer)
    loaded = load_restorer(tmp_path / "r.safetensors")
    assert torch.equal(loaded(images), restorer(images))
    assert not loaded.training
    assert (loaded.name, loaded.settings, loaded.multiple) == (restorer.name, restorer.settings, restorer.multiple)
    save_restorer(tmp_path / "again.safetensors", loaded)
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "r.safetensors").read_bytes()


@each
def test_a_step_of_training_lowers_the_loss(start: Any, name: str) -> None:
    fresh = start(name).train()
    images, target = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32) * 0.5
    optimizer = torch.optim.AdamW(fresh.parameters(), lr=1e-3)
    losses = []
    for _ in range(5):
        loss = (fresh(images) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", SETTINGS)
def test_untrained_is_close_to_the_identity(start: Any, name: str) -> None:
    restorer = start(name).eval()
    images = torch.rand(1, 3, 32, 32)
    change = (restorer(images) - images).abs().mean()
    assert change < 0.3 if name == "nafnet" else change == 0  # NAFNet keeps its own random start


def test_every_restorer_has_small_settings_here() -> None:
    assert set(RESTORERS) == {*SETTINGS, CHECKPOINT}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("unknown", {}, f"no restorer 'unknown'; there are: {', '.join(RESTORERS)}"),
        ("nafnet", {"depth": 3}, "restorer 'nafnet': depth: unknown key; there are: width, encoder_blocks, middle_b"),
        ("nafnet", {"decoder_blocks": [1]}, "encoder_blocks and decoder_blocks must have the same length"),
        ("nafnet", {"width": 0}, "restorer 'nafnet': width: Input should be greater than or equal to 1, got 0"),
        ("unet", {"channels": [4, 8]}, "restorer 'unet': channels: List should have at least 4 items"),
        ("restormer", {"heads": [1, 2]}, "restorer 'restormer': blocks and heads must have the same length"),
        ("restormer", {"heads": [3, 2, 4]}, "a level of 8 channels cannot be shared among 3 heads"),
        ("retinexformer", {"features": 18}, "features: Input should be a multiple of 4, got 18"),
        ("checkpoint", {}, "restorer 'checkpoint': weights: Field required"),
        ("checkpoint", {"weights": None}, "restorer 'checkpoint': weights must name a file"),
        ("checkpoint", {"weights": "nowhere.pth"}, "nowhere.pth: no such restorer checkpoint"),
    ],
)
def test_a_mistake_is_one_line(name: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(RestorerError) as caught:
        build_restorer(name, {**SETTINGS.get(name, {}), **change})
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_checkpoint_of_ours_keeps_its_name_and_settings(tmp_path: Path) -> None:
    save_restorer(tmp_path / "ours.safetensors", build_restorer("nafnet", SETTINGS["nafnet"]))
    restorer = build_restorer(CHECKPOINT, {"weights": str(tmp_path / "ours.safetensors")})
    assert (restorer.name, restorer.settings) == ("nafnet", SETTINGS["nafnet"])


def test_wrong_shape(build: Any) -> None:
    with pytest.raises(ValueError, match=r"Expected images of shape \(N, 3, H, W\)"):
        build("nafnet")(torch.rand(3, 8, 8))


def test_nafnet_is_that_of_spandrel_and_reads_its_weights() -> None:
    from spandrel.architectures.NAFNet import NAFNet

    torch.manual_seed(0)
    reference = NAFNet(img_channel=3, width=8, middle_blk_num=1, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1]).double()
    for weight in reference.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    settings = {"width": 8, "encoder_blocks": [1, 1], "middle_blocks": 1, "decoder_blocks": [1, 1]}
    network = build_restorer("nafnet", settings).network.double()
    network.load_state_dict(reference.state_dict())
    images = torch.rand(2, 3, 24, 16, dtype=torch.float64)
    results = []
    for each in (reference, network):
        restored = each(images)
        weights = dict(each.named_parameters())
        gradients = torch.autograd.grad(restored.square().mean(), list(weights.values()))
        results.append({"restored": restored, **dict(zip(weights, gradients, strict=True))})
    torch.testing.assert_close(results[1], results[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["nafnet", "restormer"])
def test_an_untrained_pixel_shuffle_draws_no_grid(name: str) -> None:
    torch.manual_seed(0)
    shuffles = [
        layers
        for layers in build_restorer(name, SETTINGS[name]).modules()
        if isinstance(layers, torch.nn.Sequential) and any(isinstance(layer, torch.nn.PixelShuffle) for layer in layers)
    ]
    assert shuffles
    for layers in shuffles:
        features = torch.rand(1, layers[0].in_channels, 5, 7)
        enlarged = layers(features)
        assert enlarged.shape[1:] == (features.shape[1] // 2, 10, 14)
        for dy, dx in ((0, 1), (1, 0), (1, 1)):
            torch.testing.assert_close(enlarged[..., dy::2, dx::2], enlarged[..., ::2, ::2])
