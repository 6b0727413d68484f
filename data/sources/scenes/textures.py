"""Surface textures: the photographs of brick, grass and gravel inside scikit-image's wheel, and drawn patterns.

Every texture is a periodic square of brightness factors around 1, kept with its smaller copies (Williams 1983,
"Pyramidal parametrics") in one flat array, so that a whole image is looked up in one go.
"""

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ... import images

SIDE = 256  # texels
LEVELS = 9
AHEAD = np.float32(2**17)  # texels; whole tiles that keep coordinates positive, where truncation is floor
PLAIN, BRICK, GRASS, ASPHALT, PLASTER, PAVING, LEAVES, CLOUDS = range(8)
METRES = np.array([1.0, 2.4, 1.6, 1.3, 6.0, 2.4, 2.4, 1.0])  # the side of one tile
STRENGTH = np.array([0.0, 1.0, 1.0, 0.6, 0.5, 1.0, 1.5, 1.0])  # contrast, relative to the picture's own


@dataclass(frozen=True)
class Atlas:
    """All textures and their smaller copies. `texels` is flat; `offset[texture, level]` is where a copy starts."""

    texels: NDArray[np.float32]
    offset: NDArray[np.intp]

    def lookup(
        self,
        texture: NDArray[np.intp],
        u: NDArray[np.float32],
        v: NDArray[np.float32],
        footprint: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Brightness factors at the surface coordinates u, v in metres; `footprint`: metres that a sample covers.

        All arrays have the same shape.
        """
        per_metre = (SIDE / METRES).astype(np.float32)
        level = np.log2(np.maximum(footprint * np.take(per_metre, texture), 1)).astype(np.intp)
        copy = texture * LEVELS + np.minimum(level, LEVELS - 1)
        scale = np.take((per_metre[:, None] * np.exp2(-np.arange(LEVELS, dtype=np.float32))).ravel(), copy)
        side = np.take(np.tile(SIDE >> np.arange(LEVELS), len(METRES)), copy)
        column = (u * scale + AHEAD).astype(np.intp) & (side - 1)
        row = (v * scale + AHEAD).astype(np.intp) & (side - 1)
        return np.take(self.texels, np.take(self.offset.ravel(), copy) + row * side + column)


@lru_cache(maxsize=1)
def load_atlas() -> Atlas:
    """Build the atlas once per process; always the same."""
    gravel = _photograph("gravel.png")
    grass = _photograph("grass.png")
    pictures = [
        np.ones((SIDE, SIDE), np.float32),
        _photograph("brick.png").T[::-1],
        grass,
        gravel,
        0.5 * _noise(1, 1.2) + 0.5 * _noise(2, 0.4),
        _slabs() * (0.6 + 0.4 * gravel),
        grass,
        _noise(3, 1.7),
    ]
    copies, offsets, start = [], [], 0
    for picture, strength in zip(pictures, STRENGTH, strict=True):
        texture = np.maximum(1 + strength * (picture - 1), 0).astype(np.float32)
        for level in range(LEVELS):
            side = SIDE >> level
            copies.append(cv2.resize(texture, (side, side), interpolation=cv2.INTER_AREA).ravel())
            offsets.append(start)
            start += side * side
    return Atlas(np.concatenate(copies), np.array(offsets, np.intp).reshape(len(pictures), LEVELS))


def _photograph(name: str) -> NDArray[np.float32]:
    """A bundled photograph as a periodic texture: large-scale shading divided out, then mirrored."""
    path = Path(str(resources.files("skimage") / "data" / name))
    grey = images.read_image(path)[:, :, 0].astype(np.float32)
    flat = grey / cv2.GaussianBlur(grey, (0, 0), 60)
    flat = cv2.resize(flat / flat.mean(), (SIDE // 2, SIDE // 2), interpolation=cv2.INTER_AREA)
    return np.block([[flat, flat[:, ::-1]], [flat[::-1], flat[::-1, ::-1]]])


def _noise(seed: int, slope: float) -> NDArray[np.float32]:
    """Periodic noise with amplitude ~ 1 / frequency^slope, mean 1, standard deviation 0.25."""
    spectrum = np.fft.rfft2(np.random.default_rng(seed).standard_normal((SIDE, SIDE)))
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None])
    frequency[0, 0] = np.inf
    picture = np.fft.irfft2(spectrum / frequency**slope, s=(SIDE, SIDE))
    return (1 + 0.25 * picture / picture.std()).astype(np.float32)


def _slabs() -> NDArray[np.float32]:
    """Paving slabs of 0.6 m with dark joints, each a little lighter or darker than the next."""
    count, size = 4, SIDE // 4
    tones = 1 + 0.08 * np.random.default_rng(4).standard_normal((count, count)).astype(np.float32)
    slabs = np.kron(tones, np.ones((size, size), np.float32))
    joint = (np.arange(SIDE) % size) < 3
    slabs[joint, :] *= 0.65
    slabs[:, joint] *= 0.65
    return slabs
