from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_prior import tiny_prior
from torch import Tensor, nn

from models.diffusion.prior import DiffusionPrior
from models.losses import LossError
from models.losses.diffloss import DiffLoss
from models.losses.diffusion_terms import DiffLossWithOptions, Settings, resize

GOLDEN = Path(__file__).parents[1].parent / "shared" / "golden"
TIMESTEPS = torch.tensor([20, 300, 700])


def pair(size: int = 16, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """restored, clean, noise"""
    generator = torch.Generator().manual_seed(3)
    clean = torch.rand(3, 3, size, size, generator=generator)
    restored = (clean + 0.1 * torch.randn(clean.shape, generator=generator)).clamp(0, 1)
    noise = torch.randn(clean.shape, generator=generator)
    return restored.to(dtype), clean.to(dtype), noise.to(dtype)


def gradient(value: Tensor, leaf: Tensor) -> Tensor:
    return torch.autograd.grad(value, leaf, retain_graph=True)[0]


@pytest.mark.skipif(not GOLDEN.exists(), reason=f"{GOLDEN} is absent")
def test_terms_and_gradients_agree_with_the_golden_record() -> None:
    prior = DiffusionPrior.from_guided_diffusion(GOLDEN / "adm_tiny.safetensors", GOLDEN / "adm_tiny.json")
    recorded = load_file(GOLDEN / "adm_tiny_io.safetensors")
    restored = ((recorded["restored"] + 1) / 2).requires_grad_()
    clean = (recorded["clean"] + 1) / 2
    terms = DiffLoss(prior)(restored, clean, recorded["timesteps"], recorded["noise"])
    torch.testing.assert_close(terms.natural, recorded["natural_per_image"], rtol=1e-4, atol=0)
    torch.testing.assert_close(terms.semantic, recorded["semantic_per_image"], rtol=1e-4, atol=0)
    for name in ("natural", "semantic"):
        wanted = 2 * recorded[f"grad_{name}"]  # recorded on [-1,1] images
        error = (gradient(getattr(terms, name).mean(), restored) - wanted).norm() / wanted.norm()
        assert error < 1e-4, name


def test_three_lines_in_someone_elses_training_loop() -> None:
    # The lines of docs/explanation/diffloss.md, around them a training loop that knows nothing of this project.
    from models.diffusion.prior import DiffusionPrior
    from models.losses.diffloss import DiffLoss

    assert DiffusionPrior.load
    prior = tiny_prior()
    restorer = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1), nn.Sigmoid())
    optimiser = torch.optim.AdamW(restorer.parameters(), 1e-3)
    degraded, clean, _ = pair()
    diffloss = DiffLoss(prior)
    restored = restorer(degraded)
    loss = (restored - clean).abs().mean() + 0.1 * diffloss(restored, clean).total
    loss.backward()
    optimiser.step()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in restorer.parameters())


def test_gradient_reaches_the_restorer_and_leaves_the_prior_alone() -> None:
    prior, restorer = tiny_prior(), nn.Conv2d(3, 3, 3, padding=1)
    before = {name: value.clone() for name, value in prior.state_dict().items()}
    degraded, clean, _ = pair()
    restored = restorer(degraded).sigmoid()
    restored.retain_grad()
    terms = DiffLoss(prior)(restored, clean)
    for term in (terms.natural, terms.semantic):
        assert gradient(term.sum(), restored).abs().sum() > 0
    terms.total.backward()
    assert all(parameter.grad is not None and (parameter.grad != 0).all() for parameter in restorer.parameters())
    assert all(parameter.grad is None for parameter in prior.parameters())
    assert before.keys() == prior.state_dict().keys()
    assert all(torch.equal(before[name], value) for name, value in prior.state_dict().items())


def test_loss_stays_frozen_and_in_eval() -> None:
    loss = DiffLoss(tiny_prior())
    loss.train().requires_grad_().to(torch.float64).to(torch.float32)
    loss.load_state_dict(loss.state_dict())
    assert not loss.training and not any(module.training for module in loss.modules())
    assert not any(parameter.requires_grad for parameter in loss.parameters())


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0), (0.7, 1.3)])
def test_finite_differences_in_float64(weights: tuple[float, float]) -> None:
    loss = DiffLoss(tiny_prior().double(), *weights)
    restored, clean, noise = pair(8, torch.float64)
    restored = restored * 0.8 + 0.1  # away from the ends of the range, where a step would leave it
    leaf = restored.clone().requires_grad_()
    slope = gradient(loss(leaf, clean, TIMESTEPS, noise).total, leaf)
    direction = torch.randn(slope.shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    step = 1e-5
    ahead, behind = (loss(restored + sign * step * direction, clean, TIMESTEPS, noise).total for sign in (1, -1))
    assert float((slope * direction).sum()) == pytest.approx(float((ahead - behind) / (2 * step)), rel=1e-6)


def test_zero_at_the_clean_image() -> None:
    _, clean, noise = pair()
    leaf = clean.clone().requires_grad_()
    terms = DiffLoss(tiny_prior())(leaf, clean, TIMESTEPS, noise)
    assert not terms.natural.any() and not terms.semantic.any()
    assert not gradient(terms.total, leaf).any()


def test_terms_against_numpy() -> None:
    prior = tiny_prior()
    restored, clean, noise = pair()
    terms = DiffLoss(prior, 2.0, 3.0)(restored, clean, TIMESTEPS, noise)
    kept = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[TIMESTEPS.numpy()].reshape(-1, 1, 1, 1)
    seen = {}
    for name, image in (("restored", restored), ("clean", clean)):
        noisy = np.sqrt(kept) * (2 * image.numpy() - 1) + np.sqrt(1 - kept) * noise.numpy()
        seen[name] = prior(torch.from_numpy(noisy).float(), TIMESTEPS)
    natural = ((seen["restored"].noise - seen["clean"].noise).numpy() ** 2).reshape(3, -1).mean(1)
    semantic = ((seen["restored"].hspace - seen["clean"].hspace).numpy() ** 2).reshape(3, -1).mean(1)
    np.testing.assert_allclose(terms.natural.numpy(), natural, rtol=1e-3)
    np.testing.assert_allclose(terms.semantic.numpy(), semantic, rtol=1e-3)
    assert float(terms.total) == pytest.approx((2 * natural + 3 * semantic).mean(), rel=1e-3)


def test_permuting_the_batch_permutes_the_terms() -> None:
    loss, order = DiffLoss(tiny_prior()), torch.tensor([2, 0, 1])
    restored, clean, noise = pair()
    terms = loss(restored, clean, TIMESTEPS, noise)
    moved = loss(restored[order], clean[order], TIMESTEPS[order], noise[order])
    torch.testing.assert_close(moved.natural, terms.natural[order])
    torch.testing.assert_close(moved.semantic, terms.semantic[order])


def test_without_natural_weight_the_decoder_runs_only_if_asked_for() -> None:
    prior, runs = tiny_prior(), []
    prior.unet.up_blocks[0].register_forward_hook(lambda *ignored: runs.append(1))
    restored, clean, noise = pair()
    terms = DiffLoss(prior, natural_weight=0.0)(restored, clean, TIMESTEPS, noise)
    assert torch.equal(terms.total, terms.semantic.mean()) and not runs
    wanted = DiffLoss(prior)(restored, clean, TIMESTEPS, noise)
    torch.testing.assert_close(terms.natural, wanted.natural)
    torch.testing.assert_close(terms.semantic, wanted.semantic)


def test_randomness_is_the_generators_alone() -> None:
    restored, clean, _ = pair()
    state = torch.random.get_rng_state()
    loss = DiffLoss(tiny_prior())
    draws = [float(loss(restored, clean, generator=torch.Generator().manual_seed(seed)).total) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    own = [float(DiffLoss(tiny_prior(), seed=5)(restored, clean).total) for _ in range(2)]
    assert own[0] == own[1]
    assert float(loss(restored, clean).total) != float(loss(restored, clean).total)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r, c: (r + 0.02, c), "restored: expected values in"),
        (lambda r, c: (r * 255, c), "Divide 8-bit"),
        (lambda r, c: (r, c * 2 - 1), "clean: expected values in"),
        (lambda r, c: (r.clone().fill_(float("nan")), c), "restored: holds NaN"),
        (lambda r, c: (r, c.where(c > 0.5, float("inf"))), "clean: holds NaN"),
        (lambda r, c: (r[:2], c), "one shape"),
        (lambda r, c: (r[0], c[0]), r"\(N,3,H,W\)"),
        (lambda r, c: (r[:, :1], c[:, :1]), r"\(N,3,H,W\)"),
        (lambda r, c: ((r * 255).to(torch.uint8), c), "uint8"),
        (lambda r, c: (r[..., :15], c[..., :15]), "multiples of 2"),
    ],
)
def test_wrong_images_are_named(spoil: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], message: str) -> None:
    restored, clean, _ = pair()
    restored[0, 0, 0, 0] = 1.0
    with pytest.raises(LossError, match=message):
        DiffLoss(tiny_prior())(*spoil(restored, clean))


def test_rounding_passes() -> None:
    restored, clean, noise = pair()
    assert DiffLoss(tiny_prior())(restored * (1 + 1e-5) - 1e-6, clean, TIMESTEPS, noise).total > 0
    assert DiffLoss(tiny_prior())(restored.bfloat16(), clean, TIMESTEPS, noise).total.dtype == torch.float32


def test_wrong_timesteps_noise_and_settings_are_named() -> None:
    restored, clean, noise = pair()
    loss = DiffLoss(tiny_prior())
    with pytest.raises(ValueError, match="0 to 999"):
        loss(restored, clean, torch.tensor([0, 1, 1000]), noise)
    with pytest.raises(LossError, match="noise: expected the shape"):
        loss(restored, clean, TIMESTEPS, noise[:2])
    with pytest.raises(LossError, match="one draw"):
        DiffLossWithOptions(tiny_prior(), Settings(draws=2))(restored, clean, TIMESTEPS)
    for wrong in (
        {"natural_weight": -1.0},
        {"semantic_weight": float("nan")},
        {"timestep_range": (5, 5)},
        {"timestep_range": (0, 1001)},
    ):
        with pytest.raises(LossError, match=next(iter(wrong)).replace("_", ".")):
            DiffLoss(tiny_prior(), **wrong)


def test_timesteps_come_from_the_window_with_the_stated_density() -> None:
    prior, generator = tiny_prior(), torch.Generator().manual_seed(0)
    means = {}
    for density in ("uniform", "clean", "noisy"):
        loss = DiffLossWithOptions(prior, Settings(timesteps=(100, 500), timestep_sampling=density))
        drawn = loss.draw_timesteps(20_000, generator)
        assert drawn.min() >= 100 and drawn.max() < 500 and drawn.dtype == torch.int64
        steps = torch.arange(100, 500).double()
        kept = prior.schedule.alphas_cumprod[100:500]
        weight = {"uniform": torch.ones_like(kept), "clean": kept, "noisy": 1 - kept}[density]
        means[density] = float(drawn.double().mean())
        assert means[density] == pytest.approx(float((steps * weight).sum() / weight.sum()), abs=4)
    assert means["clean"] < means["uniform"] < means["noisy"]


def test_several_draws_are_the_mean_of_single_ones() -> None:
    restored, clean, _ = pair()
    generator = torch.Generator().manual_seed(7)
    loss = DiffLoss(tiny_prior())
    singles = torch.stack([loss(restored, clean, generator=generator).natural for _ in range(3)]).mean(0)
    loss = DiffLossWithOptions(tiny_prior(), Settings(draws=3))
    several = loss(restored, clean, generator=torch.Generator().manual_seed(7))
    torch.testing.assert_close(several.natural, singles)


def test_views_resize_both_images_and_pass_the_gradient() -> None:
    restored, clean, _ = pair(24)
    sizes: list[tuple[int, ...]] = []
    prior = tiny_prior()
    prior.unet.conv_in.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(inputs[0].shape[2:])))
    leaf = restored.clone().requires_grad_()
    settings = Settings(view="multi-scale", view_sizes=(16, 8))
    total = DiffLossWithOptions(prior, settings)(leaf, clean).total
    assert sizes == [(16, 16)] * 2 + [(8, 8)] * 2
    assert gradient(total, leaf).abs().min() > 0
    assert resize(restored[..., :16], 8, 4).shape[2:] == (12, 8)
    with pytest.raises(LossError, match="restored: expected values in"):
        DiffLossWithOptions(prior, settings)(restored * 255, clean)
