"""Low light and night: a darker exposure with the noise of a sensor; lamps keep their brightness at night."""

import cv2
import numpy as np
from numpy.typing import NDArray

from .effects import Depth, Effect, Image, Parameters, Rng, Setting
from .light import count_photons, level_light, to_codes, to_light

_RATES = 512  # number of tabulated values of a night scene's light, evenly spaced in its square root
_SURROUNDINGS = 0.05  # radius of a lamp's surroundings / longer side
_FILLED, _ELONGATED = 0.5, 4  # least share of its box that a lamp fills; its largest ratio of sides

_SENSOR = {
    "exposure_stops": Setting(float, "stops below the clean exposure", 0, 16),
    "full_well_electrons": Setting(float, "electrons at white of the clean exposure", 10, 50_000),
    "read_noise_electrons": Setting(float, "electrons, standard deviation", 0, 1000),
    "cast_red": Setting(float, "gain of the red light", 0.1, 2),
    "cast_blue": Setting(float, "gain of the blue light", 0.1, 2),
    "raw_bits": Setting(int, "bits of the converter, 0 = no quantisation", 0, 16),
}


def apply_lowlight(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Darken the scene by `exposure_stops` stops, as recorded by the same camera at the same gain."""
    rates = level_light() * _cast(parameters)[:, None] * _gain(parameters)
    channels = np.array([0, 256, 512], dtype=np.uint16)
    electrons = count_photons(image + channels, rates.reshape(-1), rng)
    return _read_out(electrons, parameters, rng)


def apply_night(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Darken the scene as `lowlight` does, except small bright regions, which count as lamps and glow."""
    light = to_light(image)
    mask = lamp_mask(light, *(parameters[f"lamp_{key}"] for key in ("threshold", "contrast", "largest_share")))
    lamps = light * mask[..., None]
    glow = _glow(lamps, parameters["glow_share"] * max(image.shape[:2]))
    light *= (_cast(parameters) * 2.0 ** -parameters["exposure_stops"]).astype(np.float32)
    light += glow * np.float32(parameters["glow_gain"])
    np.maximum(light, lamps, out=light)
    np.clip(light, 0, 1, out=light)
    levels = np.rint(np.sqrt(light) * (_RATES - 1)).astype(np.uint16)
    rates = (np.arange(_RATES) / (_RATES - 1)) ** 2 * parameters["full_well_electrons"]
    return _read_out(count_photons(levels, rates, rng), parameters, rng)


def lamp_mask(
    light: NDArray[np.float32], threshold: float, contrast: float, largest_share: float
) -> NDArray[np.float32]:
    """Mask of lamps, (H, W) in [0, 1] with soft edges.

    A lamp is a compact connected region brighter than `threshold`, on average `contrast` times as bright as its
    surroundings, that covers at most `largest_share` of the picture: headlights, windows, signs; not the sky.
    """
    brightest = light.max(axis=2)
    side = 2 * int(_SURROUNDINGS * max(brightest.shape)) + 1
    count, labels, table, _ = cv2.connectedComponentsWithStats((brightest > threshold).astype(np.uint8))
    inside, around = (
        np.bincount(labels.reshape(-1), weights=values.reshape(-1), minlength=count)
        for values in (brightest, cv2.blur(brightest, (side, side)))
    )
    width, height, area = (table[:, key] for key in (cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT, cv2.CC_STAT_AREA))
    compact = (area >= _FILLED * width * height) & (np.maximum(width, height) <= _ELONGATED * np.minimum(width, height))
    lamp = compact & (area <= largest_share * labels.size) & (inside > contrast * around)
    lamp[0] = False  # label 0: all pixels that are not bright
    return np.asarray(cv2.GaussianBlur(lamp[labels].astype(np.float32), (0, 0), 0.7))


def _glow(lamps: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(lamps, (0, 0), sigma), dtype=np.float32)


def _cast(parameters: Parameters) -> NDArray[np.float64]:
    return np.array([parameters["cast_red"], 1.0, parameters["cast_blue"]])


def _gain(parameters: Parameters) -> float:
    return float(parameters["full_well_electrons"] * 2.0 ** -parameters["exposure_stops"])


def _read_out(counts: NDArray[np.uint16], parameters: Parameters, rng: Rng) -> Image:
    """Convert electrons to sRGB: read noise, quantisation, transfer function."""
    electrons = counts.astype(np.float32)
    if parameters["read_noise_electrons"]:
        noise = rng.standard_normal(counts.shape, dtype=np.float32)
        noise *= parameters["read_noise_electrons"]
        electrons += noise
    electrons /= parameters["full_well_electrons"]
    if parameters["raw_bits"]:
        steps = np.float32((1 << parameters["raw_bits"]) - 1)
        electrons *= steps
        np.rint(electrons, out=electrons)
        electrons /= steps
    return to_codes(electrons)


LOWLIGHT = Effect(
    apply_lowlight,
    _SENSOR,
    {
        "exposure_stops": (1.5, 2.5, 3.5, 4.5, 5.5),
        "full_well_electrons": (8000.0, 4500.0, 2500.0, 1600.0, 1000.0),
        "read_noise_electrons": (1.5, 2.0, 2.5, 3.0, 3.5),
        "cast_red": [0.9, 1.1],
        "cast_blue": [0.8, 1.1],
        "raw_bits": 12,
    },
    "linear light (IEC 61966-2-1), Poisson shot noise and Gaussian read noise: Foi et al. 2008, the raw-data "
    "noise model; EMVA 1288",
)
NIGHT = Effect(
    apply_night,
    {
        **_SENSOR,
        "lamp_threshold": Setting(float, "linear light, brightest channel, 0 to 1", 0, 1),
        "lamp_contrast": Setting(float, "lamp light / mean light around it", 0, 100),
        "lamp_largest_share": Setting(float, "of the picture's area", 0, 1),
        "glow_share": Setting(float, "standard deviation / longer side", 0.0005, 1),
        "glow_gain": Setting(float, "glow light / lamp light", 0, 10),
    },
    {
        "exposure_stops": (2.0, 3.0, 4.0, 5.0, 6.0),
        "full_well_electrons": (8000.0, 4500.0, 2500.0, 1600.0, 1000.0),
        "read_noise_electrons": (1.5, 2.0, 2.5, 3.0, 3.5),
        "cast_red": [1.0, 1.3],
        "cast_blue": [0.7, 1.2],
        "raw_bits": 12,
        "lamp_threshold": 0.6,
        "lamp_contrast": 1.4,
        "lamp_largest_share": 0.004,
        "glow_share": 0.015,
        "glow_gain": 0.5,
    },
    "as lowlight; lamps are small bright regions that keep their light",
)
