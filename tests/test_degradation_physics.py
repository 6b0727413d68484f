"""The physics of the degradations against independent references."""

import io

import numpy as np
import pytest
from PIL import Image as Pillow
from scipy import ndimage, stats
from skimage import color
from skimage import data as photos

from data.degradations import DegradationError, build_chain, degrade, degrade_with_parameters
from data.degradations.blur import convolve, disc_kernel, gaussian_kernel, path_kernel
from data.degradations.fog import CONTRAST_THRESHOLD, pseudo_depth
from data.degradations.light import count_photons, decode, encode, level_light, to_codes, to_light
from data.degradations.lowlight import lamp_mask
from data.degradations.precipitation import rain_drops

QUIET = {"effect": "lowlight", "read_noise_electrons": 0, "raw_bits": 0, "cast_red": 1, "cast_blue": 1}


def grey(level: int, height: int = 200, width: int = 200) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def test_the_transfer_function_is_srgb() -> None:
    # XYZ's Y of a grey is its linear light.
    levels = np.arange(256)
    greys = np.repeat(levels[:, None] / 255, 3, axis=1)[None]
    np.testing.assert_allclose(level_light(), color.rgb2xyz(greys)[0, :, 1], atol=1e-5)
    np.testing.assert_allclose(encode(decode(levels / 255)), levels / 255, atol=1e-12)
    image = np.repeat(levels.astype(np.uint8)[:, None, None], 3, axis=2)
    assert (to_codes(to_light(image)) == image).all()


@pytest.mark.parametrize("rate", [0.02, 0.7, 6.0, 49.0, 51.0, 400.0, 9000.0])
def test_photons_are_poisson(rate: float) -> None:
    draws = 200_000
    counts = count_photons(np.ones(draws, np.uint8), np.array([0.0, rate]), np.random.default_rng(1))
    found = np.cumsum(np.bincount(counts)) / draws
    expected = stats.poisson.cdf(np.arange(len(found)), rate)
    assert np.abs(found - expected).max() < 4e-3  # Kolmogorov: 1.6 / sqrt(n) at 1 %
    assert counts.mean() == pytest.approx(rate, rel=5 / np.sqrt(draws * rate))
    assert counts.var() == pytest.approx(rate, rel=0.03 + 5 / np.sqrt(draws * rate))


def test_mixed_rates_are_each_served_by_their_own() -> None:
    rates = np.array([0.0, 3.0, 30.0, 80.0, 5000.0])
    levels = np.tile(np.arange(5, dtype=np.uint8), 50_000).reshape(500, 500)
    counts = count_photons(levels, rates, np.random.default_rng(2))
    means = ndimage.mean(counts, levels, np.arange(5))
    np.testing.assert_allclose(means, rates, rtol=0.01)


@pytest.mark.parametrize("stops", [1.0, 2.0, 3.0])
def test_a_stop_halves_the_light(stops: float) -> None:
    recipe = build_chain([QUIET | {"exposure_stops": stops, "full_well_electrons": 50_000}])
    dark = degrade(grey(200), recipe, 3, 0)
    assert to_light(dark).mean() == pytest.approx(level_light()[200] / 2**stops, rel=0.02)


def test_lowlight_noise_has_the_variance_of_shot_and_read_noise() -> None:
    recipe = build_chain([QUIET | {"exposure_stops": 1, "full_well_electrons": 4000, "read_noise_electrons": 20}])
    light = to_light(degrade(grey(180), recipe, 3, 0)) * 4000
    electrons = level_light()[180] / 2 * 4000
    assert light.var() == pytest.approx(electrons + 20**2, rel=0.05)


def test_raw_bits_leave_no_more_levels_than_they_can_name() -> None:
    ramp = np.repeat(np.tile(np.arange(256, dtype=np.uint8), (64, 1))[..., None], 3, axis=2)
    recipe = build_chain([QUIET | {"exposure_stops": 0, "full_well_electrons": 50_000, "raw_bits": 3}])
    assert len(np.unique(degrade(ramp, recipe, 3, 0))) == 8


def test_night_keeps_small_lamps_and_darkens_large_bright_regions() -> None:
    image = grey(60)
    image[:80] = 250  # sky: large
    image[120:124, 90:94] = 255  # lamp: small
    night = degrade(image, "night", 3, 0)
    assert night[121:123, 91:93].mean() > 200
    assert night[10:60].mean() < 130
    assert night[121:123, 96:99].mean() > night[180:, :40].mean() + 5  # the glow around the lamp
    mask = lamp_mask(to_light(image), 0.6, 1.4, 0.004)
    assert mask[121, 91] > 0.7 and mask[40, 100] == 0


def test_fog_is_koschmieders_law_in_linear_light() -> None:
    image = photos.astronaut()[:120, :160].copy()
    depth = np.linspace(3, 200, 120 * 160, dtype=np.float32).reshape(120, 160)
    done = degrade_with_parameters(image, "fog", 3, 5, depth)
    beta = 3.912 / done.parameters["visibility_metres"]
    t = np.exp(-beta * depth.astype(float))[..., None]
    expected = encode(decode(image / 255) * t + decode(done.parameters["airlight"]) * (1 - t)) * 255
    assert np.abs(done.image - expected).max() <= 0.55


def test_at_the_visibility_two_per_cent_of_the_contrast_are_left() -> None:
    assert np.exp(-CONTRAST_THRESHOLD) == pytest.approx(0.02, abs=1e-4)
    image = grey(0)
    image[:, 100:] = 255
    recipe = build_chain([{"effect": "fog", "visibility_metres": 80, "airlight": 0.5}])
    light = to_light(degrade(image, recipe, 1, 0, np.full((200, 200), 80, np.float32)))
    assert light[:, 100:].mean() - light[:, :100].mean() == pytest.approx(0.02, abs=0.005)


def test_endless_depth_is_airlight_and_no_depth_is_clear() -> None:
    depth = np.full((200, 200), np.inf, np.float32)
    depth[:, :100] = 0
    recipe = build_chain([{"effect": "fog", "airlight": 0.8}])
    foggy = degrade(grey(50), recipe, 3, 0, depth)
    assert (foggy[:, :100] == 50).all() and (foggy[:, 100:] == 204).all()


@pytest.mark.parametrize("index", range(10))
def test_ia_yolo_fog_is_their_formula(index: int) -> None:
    image = photos.astronaut()[:120, :160].copy()
    foggy = degrade(image, f"ia-yolo-fog-{index}", 3, 0)
    for row, column in ((0, 0), (60, 80), (119, 30)):
        distance = np.hypot(row - 60, column - 80)
        t = np.exp(-(0.05 + 0.01 * index) * (-0.04 * distance + np.sqrt(160)))
        expected = image[row, column] * t + 0.5 * 255 * (1 - t)
        assert np.abs(foggy[row, column] - expected).max() <= 0.5 + 1e-3


def test_pseudo_depth_never_amplifies() -> None:
    assert pseudo_depth(3000, 4000).min() == 0
    assert pseudo_depth(300, 400).max() == pytest.approx(20)


def test_heavier_rain_has_more_larger_faster_drops() -> None:
    light, heavy = rain_drops(5), rain_drops(50)
    assert all(more > less for more, less in zip(heavy, light, strict=True))
    assert heavy[2] == pytest.approx(7.0, abs=0.7)  # Gunn and Kinzer 1949: 2.2 mm fall at about 7 m/s


@pytest.mark.parametrize("name", ["rain", "snow"])
def test_what_is_nearer_than_every_particle_stays_clear(name: str) -> None:
    depth = np.full((200, 200), 60, np.float32)
    depth[:, :100] = 0.3
    recipe = build_chain([{"effect": name, "visibility_metres": 5000}])
    result = degrade(grey(40), recipe, 4, 1, depth).astype(int)
    assert np.abs(result[:, :100] - 40).max() <= 1
    assert result[:, 100:].max() > 80


def test_rain_leans_with_the_wind() -> None:
    image = grey(20)
    for angle in (-30, 30):
        settings = {"angle_degrees": angle, "visibility_metres": 100_000, "exposure_milliseconds": 14}
        rain = degrade(image, build_chain([{"effect": "rain", **settings}]), 2, 3)[..., 0].astype(float)
        down, across = np.gradient(rain)
        # The gradient is across the streaks: its mean product has the sign of minus the slope.
        assert np.sign((down * across).sum()) == -np.sign(angle)


def test_noise_has_the_asked_deviation() -> None:
    noisy = degrade(grey(128), build_chain([{"effect": "noise", "sigma_levels": 12}]), 1, 0)
    assert noisy.std() == pytest.approx(12, rel=0.02) and noisy.mean() == pytest.approx(128, abs=0.2)


def test_iso_noise_is_correlated_between_neighbours_and_grows_with_iso() -> None:
    low, high = (
        to_light(degrade(grey(120), build_chain([{"effect": "noise-iso", "iso": iso}]), 1, 0)) for iso in (400, 6400)
    )
    assert high.std() > 3 * low.std()
    red = high[..., 0] - high[..., 0].mean()
    assert (red[:, 1:] * red[:, :-1]).mean() > 0.2 * red.var()


def test_convolution_of_a_point_is_the_kernel() -> None:
    rng = np.random.default_rng(0)
    point = np.zeros((101, 101), np.float32)
    point[50, 50] = 1
    dense = rng.random((15, 9), dtype=np.float32)
    sparse = np.where(rng.random((31, 41)) < 0.05, 1, 0).astype(np.float32)
    for kernel in (dense, sparse):
        height, width = kernel.shape
        result = convolve(point, kernel)
        top, left = 50 - height // 2, 50 - width // 2
        np.testing.assert_allclose(result[top : top + height, left : left + width], kernel, atol=1e-5)


def test_tiles_and_one_large_filter_agree() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((60, 33, 3), dtype=np.float32)
    kernel = np.where(rng.random((25, 37)) < 0.1, rng.random((25, 37)), 0).astype(np.float32)
    expected = np.stack([ndimage.convolve(values[..., c], kernel, mode="mirror") for c in range(3)], axis=2)
    np.testing.assert_allclose(convolve(values, kernel), expected, atol=1e-4)


def test_gaussian_blur_is_scipys() -> None:
    image = photos.astronaut()[:90, :120].copy()
    recipe = build_chain([{"effect": "blur-gaussian", "sigma_pixels": 2, "ratio": 1, "light": "encoded"}])
    expected = ndimage.gaussian_filter(image.astype(float), (2, 2, 0), mode="mirror")
    assert np.abs(degrade(image, recipe, 1, 0) - expected).max() < 0.6


def test_elongated_blur_follows_its_angle() -> None:
    kernel = gaussian_kernel(5, 0.3, 90, 0)
    y, x = np.mgrid[: kernel.shape[0], : kernel.shape[1]] - kernel.shape[0] // 2
    assert (kernel * y**2).sum() == pytest.approx(25, rel=0.02)
    assert (kernel * x**2).sum() == pytest.approx(2.25, rel=0.02)


@pytest.mark.parametrize("radius", [0.0, 1.0, 3.5, 8.0])
def test_a_disc_is_round_and_keeps_the_light(radius: float) -> None:
    kernel = disc_kernel(radius)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1].T, atol=1e-7)
    assert (kernel > 0).sum() >= np.pi * radius**2


def test_a_path_keeps_the_light_and_the_place() -> None:
    path = np.array([[0, 0], [10, 0], [10, 6]], float)
    kernel = path_kernel(path)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    centre = np.array(ndimage.center_of_mass(kernel)) - kernel.shape[0] // 2
    np.testing.assert_allclose(centre, 0, atol=0.1)
    straight = path_kernel(np.array([[0, 0], [12, 0]], float))
    assert (straight.sum(axis=1) > 1e-6).sum() == 1  # a horizontal path stays in one row


def test_motion_takes_a_path_of_ones_own() -> None:
    recipe = build_chain([{"effect": "blur-motion", "path": [[0, 0], [9, 0]]}])
    edge = np.zeros((64, 64, 3), np.uint8)
    edge[32:] = 200
    assert (degrade(edge, recipe, 3, 0) == edge).all()  # along the edge nothing changes
    broken = build_chain([{"effect": "blur-motion", "path": [[0, 0, 1]]}])
    with pytest.raises(DegradationError, match="path: expected a list of at least two"):
        degrade(edge, broken, 3, 0)


def test_jpeg_and_low_resolution_are_pillows() -> None:
    image = photos.astronaut()[:91, :121].copy()
    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, "JPEG", quality=15)
    assert (degrade(image, "jpeg", 3, 0) == np.asarray(Pillow.open(buffer))).all()
    small = Pillow.fromarray(image).resize((round(121 / 4), round(91 / 4)), Pillow.Resampling.BICUBIC)
    assert (degrade(image, "lowres", 3, 0) == np.asarray(small.resize((121, 91), Pillow.Resampling.BICUBIC))).all()
