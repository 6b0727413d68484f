"""Read, write and convert the images of datasets. Ranges and channel order are handled only here; files of other
formats are decoded in `photos`.

On disk and inside degradations an image is uint8 RGB (H, W, 3); inside networks it is float32 RGB
(3, H, W) in [0, 1]. OpenCV's BGR order is used only inside this module.
"""

import os
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
SMALLEST_SIDE = 32  # pixels, of images that can be degraded; data.degradations repeats it, to import no torch
DEPTH_UNITS_PER_METRE = 256  # KITTI's convention: a 16-bit PNG reaches 255.99 m in steps of 4 mm


class ImageError(ValueError):
    """An image file that cannot be read or does not have the expected layout; the text names the file."""


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read a PNG or JPEG as uint8 RGB (H, W, 3).

    Raises:
        ImageError: the file is missing or not an image.
    """
    image: Any = _decode(path, cv2.IMREAD_COLOR)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def png_size(path: Path) -> tuple[int, int]:
    """(height, width) in pixels from the header of a PNG file.

    Raises:
        ImageError: the file is missing or no PNG.
    """
    try:
        with path.open("rb") as file:
            header = file.read(24)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from error
    if len(header) < 24 or not header.startswith(PNG_SIGNATURE):
        raise ImageError(f"{path}: not a PNG file. Replace the file or remove it from the dataset")
    width, height = struct.unpack(">II", header[16:])
    return height, width


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Read a single-channel 8-bit class-index mask as uint8 (H, W).

    Raises:
        ImageError: the file is missing or broken, or has several channels or 16 bits.
    """
    mask = _decode(path, cv2.IMREAD_UNCHANGED)
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise ImageError(f"{path}: expected one 8-bit channel of class indices, got {mask.dtype} {mask.shape}")
    return np.asarray(mask, dtype=np.uint8)


def read_depth(path: Path) -> NDArray[np.float32]:
    """Read a 16-bit depth map as float32 metres (H, W); the largest code, 255.99 m, also stands for all
    larger distances.

    Raises:
        ImageError: the file is missing or broken, or not 16-bit single-channel.
    """
    depth = _decode(path, cv2.IMREAD_UNCHANGED)
    if depth.ndim != 2 or depth.dtype != np.uint16:
        raise ImageError(f"{path}: expected one 16-bit channel of depth, got {depth.dtype} {depth.shape}")
    return depth.astype(np.float32) / np.float32(DEPTH_UNITS_PER_METRE)


def write_image(path: Path, image: NDArray[np.uint8]) -> None:
    """Write uint8 RGB (H, W, 3) losslessly as PNG."""
    _encode(path, np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), dtype=np.uint8))


def write_mask(path: Path, mask: NDArray[np.uint8]) -> None:
    """Write class indices, uint8 (H, W), as 8-bit PNG."""
    _encode(path, mask)


def write_depth(path: Path, depth: NDArray[np.float32]) -> None:
    """Write depth in metres (H, W) as 16-bit PNG; distances above 255.99 m are clipped."""
    codes = np.clip(np.rint(depth * DEPTH_UNITS_PER_METRE), 0, np.iinfo(np.uint16).max)
    _encode(path, codes.astype(np.uint16))


def same_sizes(images: Sequence[NDArray[np.uint8]]) -> list[list[int]]:
    """The indices of images (H, W, 3), gathered by size: those of one size can form a batch."""
    places: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images):
        places.setdefault(image.shape, []).append(index)
    return list(places.values())


def copy_image(source: Path, target: Path) -> None:
    """Copy a file. The copy shares the blocks of the original if the file system supports it (reflink).

    The copy is never a hard or symbolic link. DVC makes cached files read-only and links its cache to them: a linked
    original would become read-only too, and a later change to it would corrupt the cache.
    """
    with source.open("rb") as original, target.open("wb") as copy:
        if not _clone(original, copy):
            for file in (original, copy):
                file.seek(0)
            copy.truncate()
            shutil.copyfileobj(original, copy)


def to_tensor(image: NDArray[np.uint8]) -> "torch.Tensor":
    """Convert uint8 RGB (H, W, 3) to a float32 tensor (3, H, W) in [0, 1]."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float().div_(255)


def to_uint8(image: "torch.Tensor") -> NDArray[np.uint8]:
    """Convert a float tensor (3, H, W) in [0, 1] to uint8 RGB (H, W, 3), clipped and rounded."""
    import torch

    scaled = image.detach().clamp(0, 1).mul(255).round().to(torch.uint8)
    return scaled.permute(1, 2, 0).contiguous().cpu().numpy()


def _decode(path: Path, flags: int) -> NDArray[np.generic]:
    try:
        buffer = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        image = cv2.imdecode(buffer, flags) if buffer.size else None
    except cv2.error:  # more pixels than OpenCV accepts
        image = None
    if image is None:
        raise ImageError(f"{path}: not a readable image. Replace the file or remove it from the dataset")
    return image


def _encode(path: Path, image: NDArray[np.integer]) -> None:
    done, buffer = cv2.imencode(path.suffix, image)
    if not done:
        raise ImageError(f"{path}: OpenCV could not encode the image")
    path.write_bytes(buffer.tobytes())


def _clone(original: BinaryIO, copy: BinaryIO) -> bool:
    """Copy in the kernel, which shares blocks on btrfs, XFS and others. Returns False if it is not supported."""
    if not hasattr(os, "copy_file_range"):
        return False
    size = os.fstat(original.fileno()).st_size
    try:
        while size and os.copy_file_range(original.fileno(), copy.fileno(), size):
            pass
    except OSError:
        return False
    return os.fstat(copy.fileno()).st_size == size
