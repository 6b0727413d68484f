"""Rendering: light, the colour of every sample, and the image and labels of a scene.

Colours are linear RGB and planar, (3, ...), until `develop` makes an 8-bit picture of them.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .buildings import FacadeStyles, Walls, paint_facades
from .camera import (
    ALONG,
    GROUND,
    SKY_FACE,
    Camera,
    FaceTable,
    Picture,
    Spots,
    contact_buffer,
    face_buffer,
    locate,
    rays,
    shadow_buffer,
    tabulate,
)
from .surfaces import CLOUDS, SIDE, Body, back_to_front, load_atlas

DETECTION = ["car", "person", "traffic_sign"]
SEGMENTATION = ["sky", "building", "road", "pavement", "vegetation", *DETECTION]
LABELS = {name: index for index, name in enumerate(SEGMENTATION)}
MIN_PIXELS = 16  # an object with fewer visible pixels has no box
MIN_SIDE = 3  # pixels; an object with a narrower or lower box has no box


@dataclass(frozen=True)
class Scene:
    """A rendered scene: image (H, W, 3) uint8, mask (H, W), instances (H, W; 0 = none), depth (H, W), boxes (K, 5)."""

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    instances: NDArray[np.int32]
    depth: NDArray[np.float32]
    boxes: NDArray[np.float64]


@dataclass(frozen=True)
class Light:
    """The light of one scene, linear RGB. `sun` is the unit direction towards the sun in the street frame."""

    sun: NDArray[np.float64]
    sunlight: NDArray[np.float64]  # (3,)
    skylight: NDArray[np.float64]  # (3,)
    zenith: NDArray[np.float64]  # (3,) the sky's colour overhead
    haze: NDArray[np.float64]  # (3,) the sky's colour at the horizon
    cloud_cover: float  # 0 clear .. 1 overcast
    cloud_offset: float
    exposure: float  # factor on the mean brightness of the picture
    noise: float  # standard deviation of the sensor's noise, in 8-bit steps


def draw_light(rng: np.random.Generator) -> Light:
    """Draw the light: clear, overcast or low sun in any direction, and an exposure up to 0.6 stops off."""
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
    """Cloud cover (N,) in [0, 1] along rays, of a level sheet of cloud seen in perspective."""
    atlas = load_atlas()
    sheet = 60 / np.maximum(-y + 0.12, 0.05)
    column = (x * sheet + np.float32(light.cloud_offset + 64 * SIDE)).astype(np.intp) & (SIDE - 1)
    row = (sheet * 1.5 + np.float32(light.cloud_offset)).astype(np.intp) & (SIDE - 1)
    density = atlas.texels[atlas.offset[CLOUDS, 0] + row * SIDE + column]
    threshold = 1.5 - light.cloud_cover
    cover: Picture = np.clip((density - threshold) * 3 + 0.3, 0, 1) * min(1.0, 0.3 + light.cloud_cover)
    return cover


def develop(linear: Picture, light: Light, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Convert samples of linear light (3, 2H + 1, 2W + 1) to an 8-bit picture (H, W, 3).

    Each pixel averages the samples around its centre with tent weights. Then follow exposure, a film-like shoulder,
    gamma 2.2 and sensor noise.
    """
    tent = np.array([0.25, 0.5, 0.25], np.float32)
    pixels = np.dstack([cv2.sepFilter2D(plane, -1, tent, tent)[1::2, 1::2] for plane in np.minimum(linear, 4.0)])
    level = 0.5 * light.exposure / max(float(pixels.mean()), 1e-3)
    steps = 4095
    curve = 255 * (1 - np.exp(-np.linspace(0, 8, steps + 1))) ** (1 / 2.2)
    codes = curve.astype(np.float32)[np.minimum(pixels * (level * steps / 8), steps).astype(np.intp)]
    codes += np.float32(light.noise) * rng.standard_normal(codes.shape, dtype=np.float32)
    return np.clip(np.rint(codes), 0, 255).astype(np.uint8)


def shade(
    spots: Spots,
    table: FaceTable,
    styles: FacadeStyles,
    walls: Walls,
    shadow: Picture,
    contact: Picture,
    camera: Camera,
    light: Light,
) -> Picture:
    """Linear RGB of every sample, (3, 2H + 1, 2W + 1). `shadow` and `contact` are buffers of the ground."""
    pattern = _texture(spots, table, camera)
    picture = np.stack([np.take(colour, spots.face) for colour in table.colour])
    picture *= pattern
    paint_facades(picture, spots, table, styles, light.haze, light.zenith)
    sun, dome = _exposure(spots, table, walls, shadow, contact, light)
    for channel in range(3):
        picture[channel] *= sun * np.float32(light.sunlight[channel]) + dome * np.float32(light.skylight[channel])
    x, y = rays(camera)
    row, column = np.nonzero(spots.face == SKY_FACE)
    picture[:, row, column] = sky_colour(light, x[column], y[row], camera.rotation @ light.sun)
    return picture


def _texture(spots: Spots, table: FaceTable, camera: Camera) -> Picture:
    """Brightness factor of the surface texture at every sample."""
    u = np.where(np.take(table.aspect == ALONG, spots.face), spots.z, spots.x)
    v = np.where(np.take(table.aspect == GROUND, spots.face), spots.z, spots.y)
    slant = np.sqrt(np.maximum(spots.depth * np.take(1 / table.distance, spots.face), 1))
    footprint = spots.depth * slant * np.float32(0.5 / camera.focal)
    return load_atlas().lookup(np.take(table.texture, spots.face), u, v, footprint)


def _exposure(
    spots: Spots, table: FaceTable, walls: Walls, shadow: Picture, contact: Picture, light: Light
) -> tuple[Picture, Picture]:
    """Shares of sunlight (Lambert's cosine) and of skylight (a half dome) that reach every sample."""
    cosine = np.maximum(table.normal @ light.sun, 0).astype(np.float32)
    dome = (0.65 + 0.35 * table.normal[:, 1]).astype(np.float32)
    level = np.take(table.ground.astype(np.float32), spots.face)
    sun = np.take(cosine, spots.face)
    sun *= 1 - level * shadow
    sun[_wall_shadow(spots, walls, light)] = 0
    return sun, np.take(dome, spots.face) * (1 - level * contact)


def _wall_shadow(spots: Spots, walls: Walls, light: Light) -> NDArray[np.bool_]:
    """Mask of the samples that lie in the shadow of the wall on the sun's side."""
    side = int(light.sun[0] > 0)
    across = np.float32(abs(light.sun[0]) + 1e-3)
    run = (np.float32(walls.offset[side]) - np.float32(2 * side - 1) * spots.x) / across
    along = spots.z + run * np.float32(light.sun[2]) - np.float32(walls.start)
    bins = np.clip(along, 0, walls.height.shape[1] - 1).astype(np.intp)
    hidden: NDArray[np.bool_] = spots.y + run * np.float32(light.sun[1]) < np.take(walls.height[side], bins)
    return hidden & (run > 0)


def render(
    backdrop: list[Body],
    bodies: list[Body],
    styles: FacadeStyles,
    walls: Walls,
    camera: Camera,
    light: Light,
    rng: np.random.Generator,
) -> Scene:
    """Render a backdrop, drawn in list order, and the bodies in front of it, sorted by distance."""
    bodies = back_to_front(bodies, camera.eye)
    table = tabulate([*backdrop, *bodies], camera)
    buffer = face_buffer([*backdrop, *bodies], camera)
    spots = locate(buffer, table, camera)
    shadow, contact = shadow_buffer(bodies, camera, light.sun), contact_buffer(bodies, camera)
    linear = shade(spots, table, styles, walls, shadow, contact, camera, light)
    centres = buffer[1::2, 1::2]
    mask, instances = table.label[centres], table.instance[centres]
    return Scene(
        image=develop(linear, light, rng),
        mask=mask,
        instances=instances,
        depth=spots.depth[1::2, 1::2].copy(),
        boxes=visible_boxes(instances, mask),
    )


def visible_boxes(instances: NDArray[np.int32], mask: NDArray[np.uint8]) -> NDArray[np.float64]:
    """YOLO boxes (K, 5) around the visible pixels of every instance that is large enough."""
    height, width = instances.shape
    rows, columns = np.nonzero(instances)
    numbers = instances[rows, columns]
    boxes = []
    for number in np.unique(numbers):
        pixels = numbers == number
        x0, x1 = columns[pixels].min(), columns[pixels].max() + 1
        y0, y1 = rows[pixels].min(), rows[pixels].max() + 1
        if pixels.sum() < MIN_PIXELS or min(x1 - x0, y1 - y0) < MIN_SIDE:
            continue
        label = mask[rows[pixels][0], columns[pixels][0]] - LABELS[DETECTION[0]]
        boxes.append([label, (x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height])
    return np.array(boxes, np.float64).reshape(-1, 5)
