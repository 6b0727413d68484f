"""The COCO-C corruptions against slow, plain computations of the published formulas."""

import warnings

import numpy as np
import pytest
from scipy import ndimage
from skimage import color
from skimage import data as photos

from data.degradations import degrade, degrade_with_parameters
from data.degradations.coco_c_blur import neighbour_sources, smear
from data.degradations.coco_c_settings import COCO_C_TABLE
from data.degradations.coco_c_weather import plasma
from data.degradations.effects import FIELD, stream
from data.degradations.frost import frost_texture

IMAGE = photos.astronaut()[:91, 60:181].copy()
SEVERITIES = (1, 2, 3, 4, 5)


def setting(corruption: str, key: str, severity: int) -> float:
    value = COCO_C_TABLE[corruption][key]
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
        1: np.arange(1, 1.11, 0.01), 2: np.arange(1, 1.16, 0.01), 3: np.arange(1, 1.21, 0.02),
        4: np.arange(1, 1.26, 0.02), 5: np.arange(1, 1.31, 0.03),
    }[severity]
    height, width = IMAGE.shape[:2]
    total = IMAGE.astype(float)
    for zoom in zooms:
        cut = int(np.ceil(height / zoom)), int(np.ceil(width / zoom))
        top, left = (height - cut[0]) // 2, (width - cut[1]) // 2
        part = IMAGE[top:top + cut[0], left:left + cut[1]].astype(float)
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
    dx, dy = (
        ndimage.gaussian_filter((rng.random((height, width), dtype=np.float32) * 2 - 1) * limit, sigma, truncate=3) * gain
        for _ in range(2)
    )
    y, x = np.mgrid[:height, :width]
    expected = [ndimage.map_coordinates(IMAGE[..., c].astype(float), [y + dy, x + dx], order=1) for c in range(3)]
    # OpenCV's remap works on a grid of 1/32 pixel.
    difference = np.abs(degrade(IMAGE, "coco-c-elastic_transform", severity, 2) - np.stack(expected, axis=2))
    assert difference.mean() < 1.2


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_has_the_published_strength(severity: int) -> None:
    grey = np.full((300, 300, 3), 128, np.uint8)
    for name, expected in (
        ("gaussian_noise", setting("gaussian_noise", "sigma", severity) * 255),
        ("speckle_noise", setting("speckle_noise", "sigma", severity) * 128),
        ("shot_noise", np.sqrt(128 / 255 / setting("shot_noise", "photons_at_white", severity)) * 255),
    ):
        noisy = degrade(grey, f"coco-c-{name}", severity, 0).astype(float)
        inside = noisy[(noisy > 0) & (noisy < 255)] if severity > 3 else noisy
        assert noisy.std() <= expected * 1.02
        assert inside.std() >= expected * (0.93 if severity <= 2 else 0.6)
    flipped = degrade(grey, "coco-c-impulse_noise", severity, 0)
    share = setting("impulse_noise", "share", severity)
    assert (flipped == 255).mean() == pytest.approx(share / 2, rel=0.05)
    assert (flipped == 0).mean() == pytest.approx(share / 2, rel=0.05)


def test_motion_and_snow_draw_the_published_angles() -> None:
    for name, low, high in (("motion_blur", -45, 45), ("snow", -135, -45)):
        angles = [degrade_with_parameters(IMAGE, f"coco-c-{name}", 2, s).parameters["angle_degrees"] for s in range(40)]
        assert low <= min(angles) < low + 20 and high - 20 < max(angles) <= high


def test_drawn_frost_has_the_photos_mean_and_contrast() -> None:
    for picture, mean, deviation in ((4, (138, 153, 165), 28), (5, (112, 123, 135), 43)):
        ice = frost_texture((240, 320), {"texture": "drawn", "picture": picture}, np.random.default_rng(0))
        assert np.abs(ice.mean(axis=(0, 1)) - mean).max() < 4
        assert ice[..., 1].std() == pytest.approx(deviation, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(COCO_C_TABLE) - {"glass_blur", "frost"}))
@pytest.mark.parametrize("severity", [1, 4])
def test_on_average_it_loses_what_imagecorruptions_loses(name: str, severity: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        corrupt = pytest.importorskip("imagecorruptions", reason="imagecorruptions is not installed").corrupt
        image = np.ascontiguousarray(photos.astronaut()[:160, :240])
        np.random.seed(0)
        try:
            theirs = [corrupt(image, severity=severity, corruption_name=name) for _ in range(25)]
        except (AttributeError, TypeError) as error:
            pytest.skip(f"imagecorruptions does not run with this NumPy or scikit-image: {error}")
    ours = [degrade(image, f"coco-c-{name}", severity, seed) for seed in range(25)]
    for measure in (np.mean, np.std):
        a, b = ([float(measure(x)) for x in images] for images in (theirs, ours))
        assert np.mean(a) == pytest.approx(np.mean(b), abs=1 + 4 * np.hypot(np.std(a), np.std(b)) / 5)
    a, b = ([float(np.mean((x.astype(float) - image) ** 2)) for x in images] for images in (theirs, ours))
    assert np.mean(a) == pytest.approx(np.mean(b), rel=0.03, abs=4 * np.hypot(np.std(a), np.std(b)) / 5)
