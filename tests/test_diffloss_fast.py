"""Faster evaluations of DiffLoss: other number formats and memory formats, latent space."""

import pytest
import torch
from test_diffloss import gradient, pair
from test_prior import tiny_latent_prior, tiny_prior
from torch import nn

from models.losses import LossError
from models.losses.diffloss import DiffLoss
from models.losses.diffusion_terms import DiffLossWithOptions, Settings

SAME = {"layers", "distance"}  # options that a faster evaluation shares with the one it is compared with


@pytest.mark.parametrize(
    "settings",
    [
        {"channels_last": True},
        {"precision": "autocast"},
        {"precision": "bfloat16"},
        {"precision": "bfloat16", "channels_last": True},
        {"precision": "mixed", "channels_last": True},
        {"precision": "mixed"},
        {"precision": "decoder", "channels_last": True},
        {"precision": "decoder"},
        {"precision": "decoder", "layers": ("up0", "noise"), "distance": "channel"},
    ],
)
def test_faster_paths_stay_close_to_the_plain_one(settings: dict) -> None:
    restored, clean, _ = pair()
    gradients, values = [], []
    plain = {name: settings[name] for name in SAME & settings.keys()}
    for options in (plain, settings):
        leaf = restored.clone().requires_grad_()
        loss = DiffLossWithOptions(tiny_prior(), Settings(**options))
        terms = loss(leaf, clean, generator=torch.Generator().manual_seed(1))
        gradients.append(gradient(terms.total, leaf))
        values.append(terms.total.item())
    assert values[1] == pytest.approx(values[0], rel=0.02)
    assert nn.functional.cosine_similarity(*(g.flatten() for g in gradients), dim=0) > 0.999
    if settings.get("precision") == "mixed":
        assert values[1] == pytest.approx(values[0], rel=1e-5), "the forward pass is not rounded"
    exact = "precision" not in settings
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-7) == exact


def test_auto_is_decoder_on_processors_with_bfloat16_units_only(monkeypatch: pytest.MonkeyPatch) -> None:
    restored, clean, _ = pair()

    def gradient_at(precision: str) -> torch.Tensor:
        leaf = restored.clone().requires_grad_()
        loss = DiffLossWithOptions(tiny_prior(), Settings.model_validate({"precision": precision}))
        return gradient(loss(leaf, clean, generator=torch.Generator().manual_seed(1)).total, leaf)

    exact, rounded = gradient_at("float32"), gradient_at("decoder")
    assert not torch.equal(exact, rounded)
    for units, expected in (({}, exact), ({"avx512_bf16": True}, rounded), ({"amx_bf16": True}, rounded)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda units=units: units)
        assert torch.equal(gradient_at("auto"), expected)


def test_latent_prior_serves_the_loss() -> None:
    restored, clean, _ = pair(16)
    leaf = restored.clone().requires_grad_()
    terms = DiffLoss(tiny_latent_prior())(leaf, clean)
    assert terms.natural.shape == terms.semantic.shape == (3,)
    assert gradient(terms.total, leaf).abs().sum() > 0
    same = DiffLoss(tiny_latent_prior())(clean, clean)
    assert float(same.total) == 0
    with pytest.raises(LossError, match="multiples of 4"):
        DiffLoss(tiny_latent_prior())(restored[..., :14], clean[..., :14])
