"""Serial correlation of neighbouring images, on simulated series of a known correlation."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from pipeline.settings.params import Params, load_params
from pipeline.statistics.neighbours import serial_correlation, video_cautions

ROOT = Path(__file__).parents[1]


def _series(correlation: float, length: int, seed: int) -> NDArray[np.float64]:
    """AR(1) with variance 1."""
    generator = np.random.default_rng(seed)
    values = [generator.normal()]
    for noise in generator.normal(size=length - 1):
        values.append(correlation * values[-1] + np.sqrt(1 - correlation**2) * noise)
    return np.array(values)


@pytest.mark.parametrize("correlation", [0.3, 0.6, 0.8])
def test_the_design_effect_is_that_of_the_simulated_means(correlation: float) -> None:
    found = serial_correlation(_series(correlation, 20_000, 0))
    assert found.value == pytest.approx(correlation, abs=0.03)
    means = [_series(correlation, 200, seed).mean() for seed in range(1000)]
    assert found.design_effect == pytest.approx(np.var(means) * 200, rel=0.15)


def test_independent_images_are_rarely_called_a_video() -> None:
    p_values = np.array([serial_correlation(_series(0.0, 100, seed)).p_value for seed in range(2000)])
    assert np.mean(p_values < 0.05) == pytest.approx(0.05, abs=0.02)
    assert np.mean(p_values < 0.01) < 0.015


def test_an_alternating_series_widens_no_interval() -> None:
    assert serial_correlation(np.tile([-1.0, 1.0], 20)).design_effect == 1


@pytest.mark.parametrize("series", [np.ones(50), np.arange(5.0), np.zeros(0)])
def test_constant_and_short_series_say_nothing(series: NDArray[np.float64]) -> None:
    found = serial_correlation(series)
    assert np.isnan([found.value, found.p_value]).all()


@pytest.fixture
def params() -> Params:
    return load_params(ROOT / "params.yaml")


def _images(gains: NDArray[np.float64]) -> pd.DataFrame:
    """images.csv with these gains at two severities."""
    rows = [
        ("segmentation", "fog", variant, f"test@{severity}/i{n:03d}", "mIoU", 0.3 + (gain if variant == "pixel" else 0))
        for variant in ("degraded", "pixel")
        for severity in (1, 3)
        for n, gain in enumerate(gains)
    ]
    return pd.DataFrame(rows, columns=["task", "degradation", "variant", "id", "metric", "score"])


def test_a_video_without_groups_is_pointed_out(params: Params) -> None:
    images = _images(0.1 * _series(0.6, 101, 3))
    (text,) = video_cautions(params, images, {"fog": {}})
    assert text.startswith("Images gain like their neighbours (correlation 0.")
    assert "by about a factor" in text and text.endswith("Set data.scenes.groups.")
    single = {"fog": {f"i{n:03d}": f"i{n:03d}" for n in range(101)}}
    (text,) = video_cautions(params, images, single)
    assert text.startswith("Groups gain like their neighbours (") and "Make the groups larger: data.scenes." in text
    assert video_cautions(params, images, {"fog": {f"i{n:03d}": str(n // 50) for n in range(101)}}) == []  # too few
    assert video_cautions(params, _images(0.1 * _series(0.0, 101, 3)), {"fog": {}}) == []
