"""Light: the sun, the sky's own light, the sky's looks, and the way from linear light to 8 bits."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .camera import Camera
from .raster import FaceTable
from .textures import CLOUDS, SIDE, load_atlas

Picture = NDArray[np.float32]


@dataclass(frozen=True)
class Light:
    """One scene's light, linear RGB. `sun` is the unit direction towards the sun in the street frame."""

    sun: NDArray[np.float64]
    sunlight: NDArray[np.float64]  # (3,)
    skylight: NDArray[np.float64]  # (3,)
    zenith: NDArray[np.float64]  # (3,) the sky's colour overhead
    haze: NDArray[np.float64]  # (3,) the sky's colour at the horizon
    cloud_cover: float  # 0 clear .. 1 overcast
    cloud_offset: float
    exposure: float  # factor on the brightness that the picture is set to
    noise: float  # standard deviation of the sensor's noise, in 8-bit steps


def draw_light(rng: np.random.Generator) -> Light:
    """Clear, overcast or low sun, with the sun anywhere around and the exposure up to 0.6 stops off."""
    weather = rng.choice(["clear", "overcast", "low"], p=[0.5, 0.3, 0.2])
    height = {"clear": rng.uniform(0.5, 1.1), "overcast": 1.0, "low": rng.uniform(0.22, 0.45)}[weather]
    bearing = rng.uniform(-np.pi, np.pi)
    sun = np.array([np.cos(height) * np.sin(bearing), np.sin(height), np.cos(height) * np.cos(bearing)])
    warmth = {"clear": rng.uniform(0.0, 0.25), "overcast": 0.0, "low": rng.uniform(0.4, 0.8)}[weather]
    strength = {"clear": rng.uniform(2.0, 3.4), "overcast": rng.uniform(0.0, 0.15), "low": rng.uniform(1.5, 2.6)}
    blue = rng.uniform(0.15, 0.5) if weather != "overcast" else rng.uniform(-0.05, 0.12)
    white = np.ones(3)
    return Light(
        sun=sun,
        sunlight=strength[weather] * np.array([1 + 0.2 * warmth, 1 - 0.15 * warmth, 1 - 0.6 * warmth]),
        skylight=rng.uniform(0.7, 1.0) * np.array([1 - 0.3 * blue, 1.0, 1 + 0.4 * blue]),
        zenith=rng.uniform(0.45, 0.9) * (white - blue * np.array([1.7, 0.95, 0.0])),
        haze=rng.uniform(0.8, 1.3) * (white - warmth * np.array([-0.1, 0.25, 0.6])),
        cloud_cover=float(rng.uniform(0.85, 1.0) if weather == "overcast" else rng.uniform(0.0, 0.6)),
        cloud_offset=float(rng.uniform(0, SIDE)),
        exposure=float(2 ** rng.uniform(-0.6, 0.6)),
        noise=float(rng.uniform(0.3, 2.0)),
    )


def sky_colour(light: Light, x: Picture, y: Picture, sun: NDArray[np.float64]) -> Picture:
    """Linear RGB (3, N) of the sky along the rays (x, y, 1), y down; `sun` in the camera frame."""
    length = np.sqrt(1 + x * x + y * y)
    blend = np.sqrt(np.clip(-1.8 * y / length, 0, 1))
    haze, zenith = light.haze.astype(np.float32)[:, None], light.zenith.astype(np.float32)[:, None]
    clouds = _clouds(light, x, y)
    colour = (haze + blend * (zenith - haze)) * (1 - clouds) + clouds * haze
    towards = np.maximum((x * np.float32(sun[0]) + y * np.float32(sun[1]) + np.float32(sun[2])) / length, 0)
    glow = towards**40 * np.float32(1 - light.cloud_cover)
    glowing: Picture = colour + glow * light.sunlight.astype(np.float32)[:, None]
    return glowing


def _clouds(light: Light, x: Picture, y: Picture) -> Picture:
    """How much cloud (N,) is in front of the sky, on a level sheet seen in perspective."""
    atlas = load_atlas()
    sheet = 60 / np.maximum(-y + 0.12, 0.05)
    column = (x * sheet + np.float32(light.cloud_offset + 64 * SIDE)).astype(np.intp) & (SIDE - 1)
    row = (sheet * 1.5 + np.float32(light.cloud_offset)).astype(np.intp) & (SIDE - 1)
    density = atlas.texels[atlas.offset[CLOUDS, 0] + row * SIDE + column]
    threshold = 1.5 - light.cloud_cover
    cover: Picture = np.clip((density - threshold) * 3 + 0.3, 0, 1) * min(1.0, 0.3 + light.cloud_cover)
    return cover


def develop(linear: Picture, light: Light, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Samples of linear light (3, 2H + 1, 2W + 1) to an 8-bit picture (H, W, 3).

    Each pixel takes the tent-weighted samples around its centre; then exposure, a film-like shoulder, gamma 2.2
    and a little sensor noise.
    """
    tent = np.array([0.25, 0.5, 0.25], np.float32)
    pixels = np.dstack([cv2.sepFilter2D(plane, -1, tent, tent)[1::2, 1::2] for plane in np.minimum(linear, 4.0)])
    level = 0.5 * light.exposure / max(float(pixels.mean()), 1e-3)
    steps = 4095
    curve = 255 * (1 - np.exp(-np.linspace(0, 8, steps + 1))) ** (1 / 2.2)
    codes = curve.astype(np.float32)[np.minimum(pixels * (level * steps / 8), steps).astype(np.intp)]
    codes += np.float32(light.noise) * rng.standard_normal(codes.shape, dtype=np.float32)
    return np.clip(np.rint(codes), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Spots:
    """Face, depth Z and street position of every sample, all (2H + 1, 2W + 1)."""

    face: NDArray[np.intp]
    depth: Picture
    x: Picture
    y: Picture
    z: Picture


def locate(buffer: NDArray[np.int32], table: FaceTable, camera: Camera) -> Spots:
    """Cut every viewing ray with the plane of its face.

    A sample on the outline of a face seen edge-on may miss it by far, so that the depth is kept within the face's own.
    """
    x, y = rays(camera)
    face = buffer.astype(np.intp)
    inverse = np.take(table.plane[0], face) * x
    inverse += np.take(table.plane[1], face) * y[:, None]
    inverse += np.take(table.plane[2], face)
    depth = np.reciprocal(np.maximum(inverse, np.float32(1e-3)))
    np.maximum(depth, np.take(table.nearest, face), out=depth)
    np.minimum(depth, np.take(table.farthest, face), out=depth)
    right, cos, sin = depth * x, np.float32(np.cos(camera.yaw)), np.float32(np.sin(camera.yaw))
    return Spots(
        face=face,
        depth=depth,
        x=(right * cos + depth * sin + np.float32(camera.x)).astype(np.float32, copy=False),
        y=np.float32(camera.eye_height) - depth * y[:, None],
        z=depth * cos - right * sin,
    )


def rays(camera: Camera) -> tuple[Picture, Picture]:
    """X of every sample column, (2W + 1,), and y of every sample row, (2H + 1,), at depth 1."""
    x = (np.arange(2 * camera.width + 1) / 2 - camera.width / 2) / camera.focal
    y = (np.arange(2 * camera.height + 1) / 2 - camera.horizon) / camera.focal
    return x.astype(np.float32), y.astype(np.float32)
