"""DiffLoss's terms as metrics of quality, against the paper's formulas on the bare U-Net."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_prior import tiny_prior
from torch import Tensor

from models.diffusion.prior import DiffusionPrior
from pipeline.metrics.image_quality import DiffLossTerms, fixed_steps
from pipeline.running.seeds import seed_for

SECTION = {"timesteps": [5, 300], "view": "resize", "view_sizes": [16]}


@pytest.fixture
def prior() -> DiffusionPrior:
    return tiny_prior()


def _pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    clean = rng.integers(0, 256, (32, 64, 3), dtype=np.uint8)
    return np.clip(clean + rng.normal(0, 30, clean.shape), 0, 255).astype(np.uint8), clean


def test_the_same_timesteps_and_noise_for_every_variant_of_an_image(prior: DiffusionPrior) -> None:
    terms = DiffLossTerms(prior, SECTION, seed=3)
    noisy, clean = _pair()
    found = terms(noisy, clean, "a")
    assert found == terms(noisy, clean, "a") == DiffLossTerms(prior, SECTION, seed=3)(noisy, clean, "a")
    assert found != terms(noisy, clean, "b")
    assert found != DiffLossTerms(prior, SECTION, seed=4)(noisy, clean, "a")
    assert terms(clean, clean, "a") == {"natural": 0, "semantic": 0}
    assert fixed_steps([5, 300]) == [41, 115, 189, 263]
    assert fixed_steps([7, 9]) == [7, 8]


def test_terms_are_the_papers(prior: DiffusionPrior) -> None:
    noisy, clean = _pair()
    found = DiffLossTerms(prior, SECTION, seed=3)(noisy, clean, "a")
    natural, semantic = _by_hand(prior, noisy, clean)
    assert found["natural"] == pytest.approx(natural, rel=1e-4)
    assert found["semantic"] == pytest.approx(semantic, rel=1e-4)


def _by_hand(prior: DiffusionPrior, image: np.ndarray, clean: np.ndarray) -> tuple[float, float]:
    """Both images noised alike; squared distances of the predicted noise and of the middle block's output."""
    unet, middle = prior.unet, []
    hook = unet.mid_block.register_forward_hook(lambda block, inputs, output: middle.append(output))
    differences = []
    for place, step in enumerate([41, 115, 189, 263]):
        generator = torch.Generator().manual_seed(seed_for(3, "prior terms", "a", place))
        torch.multinomial(torch.ones(1), 1, replacement=True, generator=generator)  # the timestep, here the only one
        noise = torch.randn((1, 3, 16, 32), generator=generator)
        share = prior.scheduler.alphas_cumprod[step]
        with torch.no_grad():
            one, other = (
                unet(share.sqrt() * (2 * _small(x) - 1) + (1 - share).sqrt() * noise, step).sample[:, :3]
                for x in (image, clean)
            )
        differences.append([(one - other).square().mean().item(), (middle[-2] - middle[-1]).square().mean().item()])
    hook.remove()
    natural, semantic = np.mean(differences, axis=0)
    return float(natural), float(semantic)


def _small(image: np.ndarray) -> Tensor:
    batch = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    return F.interpolate(batch, (16, 32), mode="bilinear", antialias=True).clamp(0, 1)


def test_images_of_any_size_are_seen_at_their_own(prior: DiffusionPrior) -> None:
    image = np.random.default_rng(0).integers(0, 256, (35, 51, 3), dtype=np.uint8)
    assert DiffLossTerms(prior, {"view": "own"}, seed=0)(image[::-1].copy(), image, "a")["natural"] > 0
