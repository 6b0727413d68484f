from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from data.dataset import Dataset
from data.samples import Sample, write_sample
from models.diffusion.prior import DiffusionPrior
from models.diffusion.unet import NetworkError, build_scheduler, build_unet
from pipeline import train_prior
from pipeline.settings.training import PriorNetwork, Schedule, TrainPrior
from pipeline.training.distributed import TrainingRank
from pipeline.training.loop import Loop

NETWORK: dict[str, Any] = {"size": 16, "channels": [16, 32], "blocks": 1, "attention": [8]}
SETTINGS = TrainPrior(
    pretrained=None,
    adm_settings=None,
    network=PriorNetwork(**NETWORK),
    schedule=Schedule(steps=1000, kind="linear"),
    crop=32,
    steps=60,
    batch=8,
    learning_rate=2e-3,
    ema=0.9,
    samples=2,
)


@pytest.fixture
def train(make_dataset: Callable[..., Dataset], tmp_path: Path) -> Callable[..., tuple[DiffusionPrior, Loop]]:
    clean = make_dataset()
    for index in range(5):  # plain images, which a prior can learn in a minute
        image = np.full((48, 64, 3), 40 * index + 20, np.uint8)
        write_sample(clean.folder, Sample(f"train{index}", "train", image))

    def do(run: str = "a", **changes: Any) -> tuple[DiffusionPrior, Loop]:
        loop = Loop("prior", tmp_path / run, 0, torch.device("cpu"))
        return train_prior.train_prior(clean, SETTINGS.model_copy(update=changes), loop), loop

    return do


def test_it_learns_to_find_the_noise(train: Callable[..., Any]) -> None:
    _, loop = train()
    losses = [values["loss"] for values in loop.curve.values()]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5])


def test_the_same_seed_gives_the_same_prior_and_the_average_is_kept(train: Callable[..., Any]) -> None:
    first, second = (train(run, steps=5)[0].state_dict() for run in "ab")
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = train("c", steps=5, ema=0.0)[0].state_dict()
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_in_bfloat16_it_learns_nearly_the_same_with_weights_of_float32(train: Callable[..., Any]) -> None:
    (prior, loop), (_, full) = train(precision="bf16", steps=20), train("full", steps=20)
    assert all(weight.dtype == torch.float32 for weight in prior.state_dict().values())
    losses, expected = ([values["loss"] for values in one.curve.values()] for one in (loop, full))
    assert losses != expected and np.allclose(losses, expected, rtol=0.1)


def test_what_comes_back_is_frozen_and_draws_pictures(train: Callable[..., Any]) -> None:
    prior, _ = train(steps=2)
    assert not any(parameter.requires_grad for parameter in prior.parameters())
    drawn, again = (train_prior.draw_samples(prior, 2, 0, torch.device("cpu")) for _ in range(2))
    assert drawn.shape == (2, 3, 16, 16) and drawn.min() >= 0 and drawn.max() <= 1
    assert torch.equal(drawn, again)


def test_a_prior_from_elsewhere_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    source = DiffusionPrior(build_unet(NETWORK), build_scheduler({"steps": 1000, "kind": "linear"}))
    source.save(tmp_path / "elsewhere")
    settings = SETTINGS.model_copy(update={"pretrained": str(tmp_path / "elsewhere"), "held_out": 0})
    train_prior._adopt(settings, tmp_path / "none", 0, tmp_path / "prior", tmp_path / "costs.json")
    loaded = DiffusionPrior.load(tmp_path / "prior").state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in source.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [({"size": 18, "channels": [16, 16, 16]}, "cannot be halved 2 times"), ({"attention": [4]}, "attention at size 4")],
)
def test_settings_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        build_unet({**NETWORK, **change})


def test_the_learning_rate_rises_and_falls() -> None:
    settings = SETTINGS.model_copy(update={"steps": 10, "warm_up": 4, "decay": "cosine"})
    rates = [train_prior._rate(settings, step) for step in range(11)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert all(low < high for high, low in pairwise(rates[4:])) and rates[10] == pytest.approx(0)
    assert {train_prior._rate(SETTINGS, step) for step in range(60)} == {1.0}


def test_min_snr_weights_errors_as_the_source_does() -> None:
    """Hang et al. 2023, equation 8 for predicted noise: min(SNR, 5) / SNR."""
    scheduler = build_scheduler({"steps": 1000, "kind": "linear"})
    clean, rank = torch.rand(64, 3, 8, 8), TrainingRank(torch.device("cpu"))

    class Silent(torch.nn.Module):
        def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor) -> Any:
            self.timesteps = timesteps
            return SimpleNamespace(sample=torch.zeros_like(noisy))

    network = Silent()
    plain = train_prior._noise_loss(network, scheduler, clean, 3, rank)
    weighted = train_prior._noise_loss(network, scheduler, clean, 3, rank, min_snr=5.0)
    generator = torch.Generator().manual_seed(3)
    squares = torch.randn(clean.shape, generator=generator).square().mean((1, 2, 3))
    snr = np.array([a / (1 - a) for a in scheduler.alphas_cumprod[network.timesteps].double().tolist()])
    assert plain.item() == pytest.approx(squares.mean().item(), rel=1e-5)
    assert weighted.item() == pytest.approx((squares.numpy() * np.minimum(snr, 5) / snr).mean(), rel=1e-4)


def test_a_prior_with_all_options_learns_and_resumes(
    train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = {"steps": 6, "min_snr": 5.0, "warm_up": 2, "decay": "cosine"}
    whole = train("whole", **options)[0].state_dict()
    monkeypatch.setattr("pipeline.training.loop.CHECKPOINT_SECONDS", 0.0)
    log = Loop.log

    def dies(loop: Loop, step: int, **values: float) -> None:
        if step == 4 and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            raise KeyboardInterrupt
        log(loop, step, **values)

    monkeypatch.setattr(Loop, "log", dies)
    with pytest.raises(KeyboardInterrupt):
        train("killed", **options)
    resumed = train("killed", **options)[0].state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
