"""DiffLoss's terms as metrics of quality, against the paper's formulas on the bare U-Net."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_prior import tiny_prior
from torch import Tensor

from data.images import to_tensor
from models.diffusion.prior import DiffusionPrior
from models.losses.diffusion_terms import DiffLossWithOptions, Settings
from pipeline.metrics.diffloss_terms import DiffLossTerms, fixed_steps
from pipeline.running.seeds import seed_for

SECTION = {"timesteps": [5, 300], "view": "resize", "view_sizes": [16]}


@pytest.fixture
def prior() -> DiffusionPrior:
    return tiny_prior()


def _pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    clean = rng.integers(0, 256, (32, 64, 3), dtype=np.uint8)
    return np.clip(clean + rng.normal(0, 30, clean.shape), 0, 255).astype(np.uint8), clean


def _compare(terms: DiffLossTerms, image: np.ndarray, clean: np.ndarray, image_id: str) -> dict[str, float]:
    return terms.compare(clean, {"seen": image}, image_id)["seen"]


def test_the_same_timesteps_and_noise_for_every_variant_of_an_image(prior: DiffusionPrior) -> None:
    terms = DiffLossTerms(prior, SECTION, seed=3)
    noisy, clean = _pair()
    found = _compare(terms, noisy, clean, "a")
    assert found == _compare(terms, noisy, clean, "a")
    assert found == _compare(DiffLossTerms(prior, SECTION, seed=3), noisy, clean, "a")
    assert found != _compare(terms, noisy, clean, "b")
    assert found != _compare(DiffLossTerms(prior, SECTION, seed=4), noisy, clean, "a")
    assert terms.compare(clean, {"first": clean, "second": noisy}, "a") == {
        "first": {"natural": 0, "semantic": 0},
        "second": found,
    }
    assert fixed_steps([5, 300]) == [41, 115, 189, 263]
    assert fixed_steps([7, 9]) == [7, 8]


def test_terms_are_the_papers(prior: DiffusionPrior) -> None:
    noisy, clean = _pair()
    found = _compare(DiffLossTerms(prior, SECTION, seed=3), noisy, clean, "a")
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
    assert _compare(DiffLossTerms(prior, {"view": "own"}, seed=0), image[::-1].copy(), image, "a")["natural"] > 0


@pytest.mark.parametrize("view", [{"view": "own"}, {"view": "multi-scale", "view_sizes": [16, 32]}])
def test_terms_are_the_losss(view: dict[str, object], prior: DiffusionPrior) -> None:
    """DiffLoss itself, one timestep after the other, draws the same noise and gives the same terms."""
    noisy, clean = _pair()
    found = _compare(DiffLossTerms(prior, {"timesteps": [5, 300], **view}, seed=3), noisy, clean, "a")
    expected = []
    for number, step in enumerate([41, 115, 189, 263]):
        loss = DiffLossWithOptions(prior, Settings(timesteps=(step, step + 1), **view))  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(seed_for(3, "prior terms", "a", number))
        with torch.no_grad():
            terms = loss(*(to_tensor(image)[None] for image in (noisy, clean)), generator=generator)
        expected.append([float(terms.natural), float(terms.semantic)])
    assert [found["natural"], found["semantic"]] == pytest.approx(np.mean(expected, axis=0), rel=1e-5)


def test_bfloat16_is_close(prior: DiffusionPrior) -> None:
    noisy, clean = _pair()
    full = _compare(DiffLossTerms(prior, SECTION, seed=3), noisy, clean, "a")
    rounded = _compare(DiffLossTerms(prior, SECTION, seed=3, precision="bf16"), noisy, clean, "a")
    assert rounded != full
    assert rounded == pytest.approx(full, rel=0.02)
