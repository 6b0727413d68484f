"""Fog by Koschmieder's law, with a metric depth map or, if there is none, with IA-YOLO's pseudo-depth."""

import numpy as np
from numpy.typing import NDArray

from .effects import Depth, Effect, Image, Parameters, Rng, Setting
from .light import decode, in_all_channels, round_to_uint8, to_codes, to_light

CONTRAST_THRESHOLD = 3.912  # -ln(0.02): at this optical depth a black object keeps 2 % contrast (Koschmieder)


def pseudo_depth(height: int, width: int) -> NDArray[np.float32]:
    """IA-YOLO's pseudo-depth (H, W): max(0, sqrt(longer side) - 0.04 * distance to the centre in pixels).

    One unit counts as one metre. IA-YOLO's values of beta (0.05 to 0.14) then mean a visibility of 78 to 28 m.
    """
    rows = (np.arange(height, dtype=np.float32) - height // 2) ** 2
    columns = (np.arange(width, dtype=np.float32) - width // 2) ** 2
    distance = np.sqrt(rows[:, None] + columns[None, :])
    return np.maximum(np.float32(max(height, width) ** 0.5) - np.float32(0.04) * distance, np.float32(0))


def transmission(depth: Depth, beta: float) -> NDArray[np.float32]:
    """Transmission exp(-beta * depth), (H, W, 3): the share of each pixel's light that arrives."""
    return in_all_channels(np.exp(np.asarray(depth, dtype=np.float32) * np.float32(-beta)))


def veiled_light(image: Image, depth: Depth, beta: float, airlight: float) -> NDArray[np.float32]:
    """Koschmieder's law in linear light, I * t + A * (1 - t): float32 (H, W, 3) in [0, 1].

    Args:
        image: uint8 sRGB (H, W, 3).
        depth: (H, W), in metres or units of pseudo-depth.
        beta: extinction coefficient per unit of depth.
        airlight: sRGB value of infinitely deep fog, in [0, 1].
    """
    return _mix(to_light(image), transmission(depth, beta), float(decode(airlight)))


def veiled_levels(image: Image, depth: Depth, beta: float, airlight: float) -> Image:
    """Koschmieder's law on encoded 8-bit values, as in IA-YOLO and most fog benchmarks: uint8 (H, W, 3)."""
    return round_to_uint8(_mix(image.astype(np.float32), transmission(depth, beta), airlight * 255))


def _mix(values: NDArray[np.float32], through: NDArray[np.float32], ambient: float) -> NDArray[np.float32]:
    values -= np.float32(ambient)
    values *= through
    values += np.float32(ambient)
    return values


def scene_depth(image: Image, depth: Depth | None) -> Depth:
    """The depth map, or the pseudo-depth of the image's size if there is none."""
    return pseudo_depth(*image.shape[:2]) if depth is None else depth


def apply_fog(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Apply homogeneous fog of the visibility in the record."""
    beta = CONTRAST_THRESHOLD / parameters["visibility_metres"]
    distance, airlight = scene_depth(image, depth), parameters["airlight"]
    if parameters["light"] == "linear":
        return to_codes(veiled_light(image, distance, beta, airlight))
    return veiled_levels(image, distance, beta, airlight)


def apply_ia_yolo(image: Image, parameters: Parameters, rng: Rng, depth: Depth | None) -> Image:
    """Apply IA-YOLO's fog: pseudo-depth even if a depth map exists, on encoded values."""
    return veiled_levels(image, pseudo_depth(*image.shape[:2]), parameters["beta"], parameters["airlight"])


FOG = Effect(
    apply_fog,
    {
        "visibility_metres": Setting(float, "m, beta = 3.912 / visibility", 1, 100_000),
        "airlight": Setting(float, "sRGB value of endless fog, 0 to 1", 0, 1),
        "light": Setting(str, "linear is physical", choices=("linear", "encoded")),
    },
    {
        "visibility_metres": (250.0, 110.0, 55.0, 40.0, 30.0),
        "airlight": [0.8, 0.9],
        "light": "linear",
    },
    "Koschmieder 1924; pseudo-depth: Liu et al., IA-YOLO, AAAI 2022",
    uses_depth=True,
)
IA_YOLO_FOG = Effect(
    apply_ia_yolo,
    {
        "beta": Setting(float, "per unit of pseudo-depth", 0, 10),
        "airlight": Setting(float, "encoded value of endless fog, 0 to 1", 0, 1),
    },
    {
        "beta": (0.05, 0.07, 0.09, 0.11, 0.14),
        "airlight": 0.5,
    },
    "Liu et al., IA-YOLO, AAAI 2022",
)
