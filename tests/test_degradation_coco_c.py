"""The COCO-C corruptions against slow, plain computations of the published formulas."""

import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image as Pillow
from scipy import ndimage
from skimage import color
from skimage import data as photos

from benchmarks.degrade import load_corrupt
from data.degradations import EFFECTS, DegradationError, build_chain, degrade, degrade_with_parameters, get_effect
from data.degradations import coco_c_weather as frost
from data.degradations.coco_c_blur import neighbour_sources, smear
from data.degradations.coco_c_weather import frost_texture, plasma
from data.degradations.effects import FIELD, stream

IMAGE = photos.astronaut()[:91, 60:181].copy()
SEVERITIES = (1, 2, 3, 4, 5)
CORRUPTIONS = {name.removeprefix("coco-c-") for name in EFFECTS if name.startswith("coco-c-")}


def setting(corruption: str, key: str, severity: int) -> float:
    value = get_effect(f"coco-c-{corruption}").severities[key]
    return value[severity - 1] if isinstance(value, tuple) else value


def close(image: np.ndarray, expected: np.ndarray, share: float = 1.0) -> None:
    """Equal but for one level, where float32 falls on the other side of a whole number."""
    difference = np.abs(image.astype(float) - np.floor(np.clip(expected, 0, 255)))
    assert (difference <= 1).mean() >= share, difference.max()
    assert (difference > 0).mean() < 0.5


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_raises_hsv_value(severity: int) -> None:
    hsv = color.rgb2hsv(IMAGE)
    hsv[..., 2] = np.clip(hsv[..., 2] + setting("brightness", "shift", severity), 0, 1)
    close(degrade(IMAGE, "coco-c-brightness", severity, 0), color.hsv2rgb(hsv) * 255)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_saturate_scales_hsv_saturation_also_of_greys(severity: int) -> None:
    image = IMAGE.copy()
    image[:20] = image[:20, :, :1]
    hsv = color.rgb2hsv(image)
    factor, shift = (setting("saturate", key, severity) for key in ("factor", "shift"))
    hsv[..., 1] = np.clip(hsv[..., 1] * factor + shift, 0, 1)
    close(degrade(image, "coco-c-saturate", severity, 0), color.hsv2rgb(hsv) * 255)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_contrast_draws_towards_each_channels_mean(severity: int) -> None:
    means = IMAGE.mean(axis=(0, 1))
    close(
        degrade(IMAGE, "coco-c-contrast", severity, 0),
        (IMAGE - means) * setting("contrast", "factor", severity) + means,
    )


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian_blur_repeats_the_edges(severity: int) -> None:
    sigma = setting("gaussian_blur", "sigma_pixels", severity)
    expected = ndimage.gaussian_filter(IMAGE.astype(float), (sigma, sigma, 0), mode="nearest", truncate=4)
    close(degrade(IMAGE, "coco-c-gaussian_blur", severity, 0), expected)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_zoom_blur_is_the_mean_of_zooms(severity: int) -> None:
    zooms = {
        1: np.arange(1, 1.11, 0.01),
        2: np.arange(1, 1.16, 0.01),
        3: np.arange(1, 1.21, 0.02),
        4: np.arange(1, 1.26, 0.02),
        5: np.arange(1, 1.31, 0.03),
    }[severity]
    height, width = IMAGE.shape[:2]
    total = IMAGE.astype(float)
    for zoom in zooms:
        cut = int(np.ceil(height / zoom)), int(np.ceil(width / zoom))
        top, left = (height - cut[0]) // 2, (width - cut[1]) // 2
        part = IMAGE[top : top + cut[0], left : left + cut[1]].astype(float)
        total += ndimage.zoom(part, (zoom, zoom, 1), order=1)[:height, :width]
    close(degrade(IMAGE, "coco-c-zoom_blur", severity, 0), total / (len(zooms) + 1), share=0.99)


@pytest.mark.parametrize("angle", [-135.0, -100.0, -45.0, -20.0, 0.0, 31.0, 45.0])
def test_motion_is_a_weighted_sum_of_shifts(angle: float) -> None:
    reach, sigma = 10, 4.0
    at = np.arange(2 * reach + 1)
    weights = np.exp(-(at**2) / (2 * sigma**2))
    expected = np.zeros(IMAGE.shape)
    for step, weight in zip(at, weights / weights.sum(), strict=True):
        dy = -int(np.ceil(step * np.sin(np.deg2rad(angle)) - 0.5))
        dx = -int(np.ceil(step * np.cos(np.deg2rad(angle)) - 0.5))
        rows = np.clip(np.arange(IMAGE.shape[0]) - dy, 0, IMAGE.shape[0] - 1)
        columns = np.clip(np.arange(IMAGE.shape[1]) - dx, 0, IMAGE.shape[1] - 1)
        expected += weight * IMAGE[rows][:, columns]
    np.testing.assert_allclose(smear(IMAGE, reach, sigma, angle), expected, atol=1e-3)


@pytest.mark.parametrize("reach", [1, 2, 4])
def test_glass_follows_the_copies_of_a_walk_over_the_picture(reach: int) -> None:
    height, width = 40, 53
    offsets = np.random.default_rng(3).integers(-reach, reach, (2, height, width), dtype=np.int32)
    walked = np.arange(height * width).reshape(height, width)
    for row in range(height - reach, reach, -1):
        for column in range(width - reach, reach, -1):
            walked[row, column] = walked[row + offsets[0, row, column], column + offsets[1, row, column]]
    assert (neighbour_sources(height, width, reach, np.random.default_rng(3)) == walked.reshape(-1)).all()


def test_plasma_is_diamond_square_on_a_torus() -> None:
    side, decay = 32, 1.7
    rng, levels = np.random.default_rng(5), []
    size = 1
    while size < side:
        levels.append((rng.random((3, size, size), dtype=np.float32) - 0.5) * 2)
        size *= 2
    cloud, step, reach = np.zeros((side, side)), side, 100.0
    for noise in levels:
        half = step // 2
        for i, row in enumerate(range(0, side, step)):
            for j, column in enumerate(range(0, side, step)):
                corners = [cloud[(row + a) % side, (column + b) % side] for a in (0, step) for b in (0, step)]
                cloud[row + half, column + half] = np.mean(corners) + reach**2 * noise[0, i, j]
        for i, row in enumerate(range(0, side, step)):
            for j, column in enumerate(range(0, side, step)):
                for k, (y, x) in enumerate([(row, column + half), (row + half, column)], start=1):
                    beside = [(y - half, x), (y + half, x), (y, x - half), (y, x + half)]
                    mean = np.mean([cloud[a % side, b % side] for a, b in beside])
                    cloud[y, x] = mean + reach**2 * noise[k, i, j]
        step, reach = half, reach / decay
    cloud = (cloud - cloud.min()) / np.ptp(cloud)
    np.testing.assert_allclose(plasma(side, decay, np.random.default_rng(5)), cloud, atol=1e-5)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_fog_adds_a_cloud_and_keeps_the_maximum(severity: int) -> None:
    thickness, decay = (setting("fog", key, severity) for key in ("thickness", "decay"))
    cloud = plasma(128, decay, stream(9, 0, FIELD))[:91, :121, None].astype(float)
    brightest = IMAGE.max() / 255
    expected = (IMAGE / 255 + thickness * cloud) * brightest / (brightest + thickness) * 255
    close(degrade(IMAGE, "coco-c-fog", severity, 9), expected)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_elastic_moves_along_a_smooth_field(severity: int) -> None:
    height, width = IMAGE.shape[:2]
    rng, limit = stream(2, 0, FIELD), 0.005 * IMAGE.shape[0]
    sigma, gain = (0.01 * height, 0.01 * width), setting("elastic_transform", "strength", severity)
    fields = [(rng.random((height, width), dtype=np.float32) * 2 - 1) * limit for _ in range(2)]
    dx, dy = (ndimage.gaussian_filter(field, sigma, truncate=3) * gain for field in fields)
    y, x = np.mgrid[:height, :width]
    expected = [
        ndimage.map_coordinates(IMAGE[..., c].astype(float), [y + dy, x + dx], order=1, mode="reflect")
        for c in range(3)
    ]
    # OpenCV's remap works on a grid of 1/32 pixel.
    difference = np.abs(degrade(IMAGE, "coco-c-elastic_transform", severity, 2) - np.stack(expected, axis=2))
    assert difference.mean() < 1.2


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_has_the_published_distribution(severity: int) -> None:
    grey, rng = np.full((200, 200, 3), 128, np.uint8), np.random.default_rng(0)
    x = grey / 255
    photons = setting("shot_noise", "photons_at_white", severity)
    amount = setting("impulse_noise", "share", severity)
    flip = rng.random(x.shape) < amount
    expected = {
        "gaussian_noise": x + rng.normal(0, setting("gaussian_noise", "sigma", severity), x.shape),
        "speckle_noise": x + x * rng.normal(0, setting("speckle_noise", "sigma", severity), x.shape),
        "shot_noise": rng.poisson(x * photons) / photons,
        "impulse_noise": np.where(flip, rng.random(x.shape) < 0.5, x),
    }
    for name, values in expected.items():
        levels = np.uint8(np.clip(values, 0, 1) * 255)
        ours = degrade(grey, f"coco-c-{name}", severity, 0)
        shares = [np.cumsum(np.bincount(image.reshape(-1), minlength=256)) / image.size for image in (levels, ours)]
        assert np.abs(shares[0] - shares[1]).max() < 0.0085, name  # two samples of 120,000: Kolmogorov and Smirnov


def test_motion_and_snow_draw_the_published_angles() -> None:
    for name, low, high in (("motion_blur", -45, 45), ("snow", -135, -45)):
        angles = [degrade_with_parameters(IMAGE, f"coco-c-{name}", 2, s).parameters["angle_degrees"] for s in range(40)]
        assert low <= min(angles) < low + 20 and high - 20 < max(angles) <= high


def test_drawn_frost_has_the_photos_mean_and_contrast() -> None:
    for picture, mean, deviation in ((4, (138, 153, 165), 28), (5, (112, 123, 135), 43)):
        ice = frost_texture((240, 320), {"texture": "drawn", "picture": picture}, np.random.default_rng(0))
        assert np.abs(ice.mean(axis=(0, 1)) - mean).max() < 4
        assert ice[..., 1].std() == pytest.approx(deviation, rel=0.1)


def test_frost_photos_come_from_the_package_or_their_absence_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = build_chain([{"effect": "coco-c-frost", "texture": "imagecorruptions", "picture": 4, "keep": 0}])
    monkeypatch.setattr(frost, "find_spec", lambda name: None)
    with pytest.raises(DegradationError, match="imagecorruptions, which is not installed"):
        degrade(IMAGE, recipe, 1, 0)
    (tmp_path / "frost").mkdir()
    Pillow.new("RGB", (50, 40), (10, 100, 200)).save(tmp_path / "frost" / "frost4.jpg", quality=100)
    monkeypatch.setattr(frost, "find_spec", lambda name: SimpleNamespace(origin=str(tmp_path / "__init__.py")))
    frosted = degrade(IMAGE, recipe, 2, 0)
    assert np.abs(frosted - 0.6 * np.array([10, 100, 200])).max() < 3


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CORRUPTIONS - {"glass_blur", "frost"}))
@pytest.mark.parametrize("severity", [1, 4])
def test_on_average_it_loses_what_imagecorruptions_loses(name: str, severity: int) -> None:
    corrupt = load_corrupt()
    if corrupt is None:
        pytest.skip("imagecorruptions is not installed; benchmarks/degrade.py says how")
    image = np.ascontiguousarray(photos.astronaut()[:160, :240])
    np.random.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = [corrupt(image, severity=severity, corruption_name=name) for _ in range(25)]
    ours = [degrade(image, f"coco-c-{name}", severity, seed) for seed in range(25)]
    for measure in (np.mean, np.std):
        a, b = ([float(measure(x)) for x in images] for images in (theirs, ours))
        assert np.mean(a) == pytest.approx(np.mean(b), abs=1 + 4 * np.hypot(np.std(a), np.std(b)) / 5)
    a, b = ([float(np.mean((x.astype(float) - image) ** 2)) for x in images] for images in (theirs, ours))
    assert np.mean(a) == pytest.approx(np.mean(b), rel=0.03, abs=4 * np.hypot(np.std(a), np.std(b)) / 5)
