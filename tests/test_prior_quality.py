"""How good a prior is: its denoising errors against networks whose errors are known."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from data.dataset import Dataset
from data.samples import Sample, write_sample
from models.diffusion.networks import NOISE
from models.diffusion.prior import DiffusionPrior
from models.diffusion.schedule import NoiseSchedule
from models.diffusion.unet import build_scheduler, build_unet
from pipeline import train_prior
from pipeline.settings.params import ParamsError, load_params
from pipeline.training.prior_quality import TIMESTEPS, denoising_errors
from pipeline.training.restorers import described_losses

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")


class Known:
    """A prior whose predictions are known: the noise times a factor, or the best linear guess from one pixel."""

    size_multiple = 8

    def __init__(self, factor: float | None, variance: float = 0.0) -> None:
        self.schedule = NoiseSchedule.from_scheduler(build_scheduler({"steps": 1000, "kind": "linear"}))
        self._factor, self._variance = factor, variance

    def to(self, device: torch.device) -> "Known":
        return self

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        self.images = images
        return images

    def add_noise(self, images: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        self._noise = noise
        return self.schedule.add_noise(images, noise, timesteps)

    def maps(self, noisy: torch.Tensor, timesteps: torch.Tensor, layers: list[str]) -> dict[str, torch.Tensor]:
        if self._factor is not None:
            return {NOISE: self._factor * self._noise}
        signal = float(self.schedule.alphas_cumprod[int(timesteps[0])])
        return {NOISE: noisy * (1 - signal) ** 0.5 / (signal * self._variance + 1 - signal)}


def _errors(prior: Any, clean: Dataset, count: int = 20) -> Any:
    return denoising_errors(prior, clean, count, 32, 30, 0, CPU)


def test_priors_with_known_errors(make_dataset: Callable[..., Dataset]) -> None:
    clean = make_dataset(train=1, val=3, test=1)
    errors = _errors(Known(1.0), clean)
    assert len(errors.table) == TIMESTEPS and not errors.table.error.any() and errors.summary["relative_error"] == 0
    assert (errors.split, errors.images, errors.summary["split"]) == ("val", 3, "val")
    assert errors.table.timestep.iloc[[0, -1]].tolist() == [0, 999]
    half = _errors(Known(0.5), clean).table
    assert half.error.to_numpy() == pytest.approx(np.full(TIMESTEPS, 0.25), rel=0.1)
    assert (half.low < half.error).all() and (half.error < half.high).all()


def test_the_reference_is_what_a_gaussian_of_the_pixels_reaches(make_dataset: Callable[..., Dataset]) -> None:
    clean = make_dataset(train=1, val=1)
    rng = np.random.default_rng(0)
    image = np.clip(rng.normal(127.5, 40, (48, 64, 3)), 0, 255).astype(np.uint8)
    write_sample(clean.folder, Sample("val0", "val", image))
    seen = Known(1.0)
    denoising_errors(seen, clean, 1, 48, 48, 0, CPU)  # type: ignore[arg-type]
    gaussian = denoising_errors(Known(None, float(seen.images.var())), clean, 1, 48, 48, 0, CPU)  # type: ignore[arg-type]
    assert gaussian.table.error.to_numpy() == pytest.approx(gaussian.table.reference.to_numpy(), rel=0.1)
    assert gaussian.summary["relative_error"] == pytest.approx(1, abs=0.05)


def test_the_stage_writes_them_for_a_prior_from_elsewhere(
    make_dataset: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    clean = make_dataset(train=1, test=2)
    torch.manual_seed(0)
    network = {"size": 16, "channels": [16, 32], "blocks": 1, "attention": []}
    DiffusionPrior(build_unet(network), build_scheduler({"steps": 1000, "kind": "linear"})).save(Path("elsewhere"))
    settings = load_params(ROOT / "params.tiny.yaml").train_prior
    settings = settings.model_copy(update={"pretrained": "elsewhere", "held_out": 2})
    for out in ("a", "b"):
        train_prior._adopt(settings, clean.folder, 0, Path(out), Path("costs.json"))
    files = {"denoising.csv", "denoising.png", "quality.json"}
    assert files <= {path.name for path in Path("a").iterdir()}
    assert all(Path("a", name).read_bytes() == Path("b", name).read_bytes() for name in files)
    assert json.loads(Path("a/quality.json").read_text())["split"] == "test"  # there is no split val
    assert list(pd.read_csv("a/denoising.csv")) == ["timestep", "error", "low", "high", "reference"]
    assert "train_prior: denoising error" in capsys.readouterr().out


def test_a_class_conditional_prior_by_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import UNet2DModel

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    blocks = {"block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 8, "num_class_embeds": 5}
    kinds = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    UNet2DModel(sample_size=16, **blocks, **kinds).save_pretrained("elsewhere/unet")
    build_scheduler({"steps": 1000, "kind": "linear"}).save_pretrained("elsewhere/scheduler")
    settings = load_params(ROOT / "params.tiny.yaml").train_prior.model_copy(update={"pretrained": "elsewhere"})
    settings = settings.model_copy(update={"held_out": 0})
    with pytest.raises(ValueError, match="null_class"):
        train_prior._adopt(settings, Path("none"), 0, Path("prior"), Path("costs.json"))
    settings = settings.model_copy(update={"null_class": 4})
    train_prior._adopt(settings, Path("none"), 0, Path("prior"), Path("costs.json"))
    assert DiffusionPrior.load(Path("prior")).null_class == 4


def test_a_degradation_can_have_its_own_window() -> None:
    settings = {"timesteps": [5, 300], "timesteps_of": {"fog": [400, 900]}}
    description = {
        "losses": {"pixel": {"kind": "pixel", "settings": {}}, "x": {"kind": "diffloss", "settings": settings}}
    }
    windows = [described_losses(description, name)["x"][1]["timesteps"] for name in ("fog", "lowlight", None)]
    assert windows == [[400, 900], [5, 300], [5, 300]]
    assert described_losses(description, "fog")["pixel"] == ("pixel", {})


def test_a_window_that_does_not_fit_is_refused() -> None:
    from pipeline.plan import check_numbers

    params = load_params(ROOT / "params.tiny.yaml")
    losses = {**params.losses, "diffloss": {**params.losses["diffloss"], "timesteps_of": {"fog": (10, 2000)}}}
    with pytest.raises(ParamsError, match=r"losses\.diffloss\.timesteps_of\.fog: expected 0 <= low < high <= 1000"):
        check_numbers(params.model_copy(update={"losses": losses}))
    losses["diffloss"] = {**params.losses["diffloss"], "timesteps_of": {"fgo": (10, 200)}}
    with pytest.raises(ParamsError, match=r"losses\.diffloss\.timesteps_of: there is no recipe 'fgo'\. Choose from"):
        check_numbers(params.model_copy(update={"losses": losses}))
