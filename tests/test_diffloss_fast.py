"""Faster ways to the same loss: cached clean branches, other number formats, latent space."""

from pathlib import Path

import pytest
import torch
from test_diffloss import gradient, pair
from test_prior import tiny_latent_prior, tiny_prior
from torch import nn

from models.losses.diffloss import DiffLoss
from models.losses.feature_bank import FeatureBank
from models.losses.term import LossError


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("natural_weight", [0.0, 1.0])
def test_bank_evaluates_the_clean_branch_once(tmp_path: Path, on_disk: bool, natural_weight: float) -> None:
    prior, sizes = tiny_prior(), []
    prior.unet.conv_in.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    restored, clean, _ = pair()
    bank = FeatureBank(2, tmp_path if on_disk else None)
    loss = DiffLoss(prior, natural_weight, bank=bank)
    generator = torch.Generator().manual_seed(0)
    for _ in range(12):
        loss(restored, clean, generator=generator)
    assert sizes.count(3) == 12, "the restored branch runs at every step"
    assert 3 < sizes.count(1) <= 3 * 2, "the clean branch once for each image and pair"
    assert len(list(tmp_path.rglob("*.safetensors"))) == (sizes.count(1) if on_disk else 0)
    drawn = bank.draw(clean, clean, loss.sampler, torch.Generator().manual_seed(0))
    cached = loss(restored, clean, generator=torch.Generator().manual_seed(0))
    direct = DiffLoss(prior)(restored, clean, drawn.timesteps, drawn.noise)
    torch.testing.assert_close(cached.semantic, direct.semantic)
    torch.testing.assert_close(cached.natural, direct.natural)


def test_bank_tells_views_priors_and_windows_apart() -> None:
    _, clean, _ = pair()
    prior, bank = tiny_prior(), FeatureBank(1)
    sampler = DiffLoss(prior).sampler
    generator = torch.Generator().manual_seed(0)
    keys = [bank.draw(view, view, sampler, generator).keys for view in (clean, clean.flip(3), clean)]
    assert keys[0] == keys[2] and not set(keys[0]) & set(keys[1])
    other = tiny_prior()
    with torch.no_grad():
        other.unet.conv_in.bias += 1
    scopes = {
        DiffLoss(p, timestep_range=window, bank=bank)._scope
        for p, window in ((prior, (0, 1000)), (prior, (0, 500)), (other, (0, 1000)))
    }
    assert len(scopes) == 3


SAME = {"bank", "layers", "distance"}  # of a faster path and of what it is compared with


@pytest.mark.parametrize(
    "settings",
    [
        {"channels_last": True},
        {"precision": "autocast"},
        {"precision": "bfloat16"},
        {"precision": "bfloat16", "channels_last": True},
        {"precision": "bfloat16", "bank": FeatureBank(1)},
        {"precision": "mixed", "channels_last": True},
        {"precision": "mixed", "bank": FeatureBank(1)},
        {"precision": "decoder", "channels_last": True},
        {"precision": "decoder", "bank": FeatureBank(1)},
        {"precision": "decoder", "layers": ["up0", "noise"], "distance": "channel"},
    ],
)
def test_faster_paths_stay_close_to_the_plain_one(settings: dict) -> None:
    restored, clean, _ = pair()
    gradients, values = [], []
    plain = {name: FeatureBank(1) if name == "bank" else settings[name] for name in SAME & settings.keys()}
    for options in (plain, settings):
        leaf = restored.clone().requires_grad_()
        terms = DiffLoss(tiny_prior(), **options)(leaf, clean, generator=torch.Generator().manual_seed(1))
        gradients.append(gradient(terms.total, leaf))
        values.append(terms.total.item())
    assert values[1] == pytest.approx(values[0], rel=0.02)
    assert nn.functional.cosine_similarity(*(g.flatten() for g in gradients), dim=0) > 0.999
    if settings.get("precision") == "mixed":
        assert values[1] == pytest.approx(values[0], rel=1e-5), "the forward pass is not rounded"
    exact = "precision" not in settings
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-7) == exact


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
