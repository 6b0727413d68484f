from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.dataset import Dataset
from data.samples import Sample, write_sample
from models.diffusion.prior import DiffusionPrior
from models.diffusion.unet import NetworkError, build_scheduler, build_unet
from pipeline import train_prior
from pipeline.settings.params import PriorNetwork, Schedule, TrainPrior
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
    train_prior._adopt(str(tmp_path / "elsewhere"), None, tmp_path / "prior", tmp_path / "costs.json")
    loaded = DiffusionPrior.load(tmp_path / "prior").state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in source.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [({"size": 18, "channels": [16, 16, 16]}, "cannot be halved 2 times"), ({"attention": [4]}, "attention at size 4")],
)
def test_settings_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        build_unet({**NETWORK, **change})
