from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models.restorers import RESTORERS, RestorerError, build_restorer, load_restorer, save_restorer

SETTINGS = {"nafnet": {"width": 8, "encoder_blocks": [1, 1], "middle_blocks": 1, "decoder_blocks": [1, 1]}}
SIZES = [(32, 32), (37, 61), (5, 200), (1, 1)]

each = pytest.mark.parametrize("name", RESTORERS)


def _build(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    restorer = build_restorer(name, SETTINGS[name])
    for parameter in restorer.parameters():  # far from its start: every path carries a signal
        torch.nn.init.normal_(parameter, std=0.2)
    return restorer


@each
@pytest.mark.parametrize("size", SIZES)
def test_any_size_in_range(name: str, size: tuple[int, int]) -> None:
    restored = _build(name).eval()(torch.rand(2, 3, *size))
    assert restored.shape == (2, 3, *size)
    assert restored.min() >= 0 and restored.max() <= 1


@each
def test_batch_is_one_by_one_and_eval_is_deterministic(name: str) -> None:
    restorer = _build(name).eval()
    images = torch.rand(3, 3, 24, 40)
    together = restorer(images)
    assert torch.equal(together, restorer(images))
    alone = torch.cat([restorer(image[None]) for image in images])
    assert torch.allclose(together, alone, atol=1e-5)


@each
def test_gradient_reaches_every_weight_also_where_the_output_leaves_the_range(name: str) -> None:
    restorer = _build(name).train()
    restored = restorer(torch.rand(2, 3, 32, 32))
    assert restored.max() > 1 or restored.min() < 0
    restored.square().sum().backward()
    without = [
        key for key, parameter in restorer.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    assert not without


@each
def test_save_and_load_are_exact(name: str, tmp_path: Path) -> None:
    restorer = _build(name).eval()
    images = torch.rand(1, 3, 20, 20)
    save_restorer(tmp_path / "r.safetensors", restorer)
    loaded = load_restorer(tmp_path / "r.safetensors")
    assert torch.equal(loaded(images), restorer(images))
    assert not loaded.training
    assert loaded.settings == restorer.settings


def test_untrained_is_close_to_the_identity() -> None:
    restorer = build_restorer("nafnet", SETTINGS["nafnet"]).eval()
    images = torch.rand(1, 3, 32, 32)
    assert (restorer(images) - images).abs().mean() < 0.2


def test_a_checkpoint_that_spandrel_reads(tmp_path: Path) -> None:
    restorer = _build("nafnet").eval()
    images = torch.rand(1, 3, 32, 20)  # other sizes it pads with zeros, where ours reflects
    state = restorer.network.state_dict()
    torch.save({"params": state}, tmp_path / "foreign.pth")
    save_file(state, tmp_path / "foreign.safetensors")
    for file in ("foreign.pth", "foreign.safetensors"):
        assert torch.allclose(load_restorer(tmp_path / file)(images), restorer(images), atol=1e-5)


def test_what_cannot_be_loaded_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(RestorerError, match=r"nowhere\.safetensors: no such restorer"):
        load_restorer(tmp_path / "nowhere.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"nonsense")
    with pytest.raises(RestorerError, match=r"broken\.safetensors: not a readable safetensors file"):
        load_restorer(tmp_path / "broken.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "strange.safetensors")
    with pytest.raises(RestorerError, match=r"strange\.safetensors: spandrel cannot read"):
        load_restorer(tmp_path / "strange.safetensors")


def test_unknown_restorer_and_setting() -> None:
    with pytest.raises(RestorerError, match="no restorer 'unknown'; there are: nafnet"):
        build_restorer("unknown", {})
    with pytest.raises(RestorerError, match="restorer 'nafnet'"):
        build_restorer("nafnet", {**SETTINGS["nafnet"], "depth": 3})


def test_wrong_shape() -> None:
    with pytest.raises(ValueError, match=r"Expected images of shape \(N, 3, H, W\)"):
        _build("nafnet")(torch.rand(3, 8, 8))
