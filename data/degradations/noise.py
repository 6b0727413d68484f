"""Camera noise: Gaussian, photon (Poisson), and high-ISO noise correlated by demosaicing."""

import cv2
import numpy as np

from .effects import Depth, Effect, Image, Parameters, Rng, Setting
from .light import count_photons, level_light, round_to_uint8, to_codes, to_light

_RAW_SCALE = 65535.0 / 2  # headroom above white, so that bright noise is not clipped before demosaicing


def apply_gaussian(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Add independent Gaussian noise to the 8-bit values."""
    noisy = rng.standard_normal(image.shape, dtype=np.float32)
    noisy *= parameters["sigma_levels"]
    noisy += image
    return round_to_uint8(noisy)


def apply_poisson(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Add photon noise in linear light, with `photons_at_white` photons counted at white."""
    photons = parameters["photons_at_white"]
    counts = count_photons(image, level_light() * photons, rng)
    return to_codes(np.arange(int(counts.max()) + 1, dtype=np.float32) / np.float32(photons)).take(counts)


def apply_iso(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Add the noise of a raw sensor at high gain: each pixel counts one colour, and demosaicing spreads the noise.

    Only the noise is demosaiced, not the picture, so that an image without noise would stay unchanged.
    """
    electrons = parameters["full_well_electrons"] * 100 / parameters["iso"]
    mosaic = _mosaic(image)
    clean = level_light()[mosaic]
    noisy = count_photons(mosaic, level_light() * electrons, rng).astype(np.float32)
    read = rng.standard_normal(mosaic.shape, dtype=np.float32)
    noisy += read * np.float32(parameters["read_noise_electrons"])
    noisy /= electrons
    # 16-bit demosaicing has no negative values, so that the noise is offset by 1.
    raw = np.clip((noisy - clean + 1) * _RAW_SCALE, 0, 65535).astype(np.uint16)
    noise = cv2.cvtColor(raw, cv2.COLOR_BayerRGGB2RGB).astype(np.float32)
    noise *= 1 / _RAW_SCALE
    noise -= 1
    noise += to_light(image)
    return to_codes(noise)


def _mosaic(image: Image) -> np.ndarray:
    """The channel that each pixel of an RGGB filter records, (H, W)."""
    mosaic = image[:, :, 1].copy()
    mosaic[::2, ::2] = image[::2, ::2, 0]
    mosaic[1::2, 1::2] = image[1::2, 1::2, 2]
    return mosaic


GAUSSIAN_NOISE = Effect(
    apply_gaussian,
    {"sigma_levels": Setting(float, "8-bit levels, standard deviation", 0, 255)},
    {"sigma_levels": (8.0, 16.0, 28.0, 42.0, 60.0)},
    "additive white Gaussian noise",
)
POISSON_NOISE = Effect(
    apply_poisson,
    {"photons_at_white": Setting(float, "photons counted at white", 1, 50_000)},
    {"photons_at_white": (500.0, 150.0, 60.0, 25.0, 10.0)},
    "Poisson counting in linear light (IEC 61966-2-1)",
)
ISO_NOISE = Effect(
    apply_iso,
    {
        "iso": Setting(float, "ISO speed", 100, 1_000_000),
        "full_well_electrons": Setting(float, "electrons at white at ISO 100", 10, 50_000),
        "read_noise_electrons": Setting(float, "electrons, standard deviation", 0, 1000),
    },
    {
        "iso": (800.0, 2500.0, 8000.0, 20000.0, 51200.0),
        "full_well_electrons": 6000.0,
        "read_noise_electrons": 2.0,
    },
    "raw noise model of Foi et al. 2008 behind an RGGB filter, bilinear demosaicing",
)
