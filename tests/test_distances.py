import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from test_prior import tiny_prior, tiny_unet

from models.diffusion.prior import DiffusionPrior, PriorError
from models.losses.diffloss import DiffLoss
from models.losses.diffusion_terms import DiffLossWithOptions, Settings
from models.losses.distances import DISTANCES

GENERATOR = torch.Generator().manual_seed(0)
SEEN, WANTED = (torch.randn(2, 6, 5, 7, generator=GENERATOR, dtype=torch.float64) for _ in range(2))


def _by_numpy(name: str, seen: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    if name == "mse":
        return ((seen - wanted) ** 2).mean(axis=(1, 2, 3))
    if name == "channel":
        power = wanted.reshape(2, 6, -1).var(axis=2)
        return (((seen - wanted) ** 2).mean(axis=(2, 3)) / power).mean(axis=1)
    cosines = (seen * wanted).sum(1) / np.linalg.norm(seen, axis=1) / np.linalg.norm(wanted, axis=1)
    return (1 - cosines).mean(axis=(1, 2))


@pytest.mark.parametrize("name", DISTANCES)
def test_distance_against_numpy(name: str) -> None:
    distances = DISTANCES[name](SEEN, WANTED).numpy()
    np.testing.assert_allclose(distances, _by_numpy(name, SEEN.numpy(), WANTED.numpy()), rtol=1e-12)


@pytest.mark.parametrize("name", DISTANCES)
def test_distance_of_equals_is_nothing_and_its_gradient_is_right(name: str) -> None:
    distance = DISTANCES[name]
    assert distance(WANTED, WANTED).abs().max() < 1e-12
    assert torch.autograd.gradcheck(lambda seen: distance(seen, WANTED), SEEN.clone().requires_grad_())
    silent = torch.zeros_like(WANTED)
    assert torch.isfinite(distance(SEEN, silent)).all() and torch.isfinite(distance(silent, silent)).all()


def test_a_silent_channel_does_not_decide() -> None:
    wanted = WANTED.clone()
    wanted[:, 0] = 0
    seen = wanted.clone()
    seen[:, 0] += 1e-3
    assert DISTANCES["channel"](seen, wanted).max() < 1e-4


def test_a_channel_counts_the_same_at_any_scale() -> None:
    scale = torch.tensor([1.0, 3, 1, 2, 1, 1], dtype=torch.float64).reshape(1, 6, 1, 1)
    torch.testing.assert_close(DISTANCES["channel"](SEEN * scale, WANTED * scale), DISTANCES["channel"](SEEN, WANTED))


@pytest.mark.parametrize("name", DISTANCES)
def test_the_semantic_term_is_the_mean_over_its_layers(name: str) -> None:
    prior = DiffusionPrior(tiny_unet(), DDPMScheduler())
    clean, restored = torch.rand(2, 2, 3, 16, 16, generator=GENERATOR)
    timesteps, noise = torch.tensor([3, 700]), torch.randn(2, 3, 16, 16, generator=GENERATOR)
    alone = [
        DiffLossWithOptions(prior, Settings(layers=(layer,), distance=name))(restored, clean, timesteps, noise).semantic
        for layer in ("down1", "middle", "up0")
    ]
    settings = Settings(layers=("down1", "middle", "up0"), distance=name)
    together = DiffLossWithOptions(prior, settings)(restored, clean, timesteps, noise)
    torch.testing.assert_close(together.semantic, torch.stack(alone).mean(0))
    assert (together.semantic > 0).all()
    plain = DiffLoss(prior)(restored, clean, timesteps, noise)
    torch.testing.assert_close(together.natural, plain.natural)


def test_a_layer_that_the_prior_does_not_have_is_named() -> None:
    with pytest.raises(PriorError, match="no layer 'up9'"):
        DiffLossWithOptions(tiny_prior(), Settings(layers=("up9",)))
