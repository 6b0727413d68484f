"""Read, write and convert images. Ranges, channel order and file formats are handled only here.

On disk and inside degradations an image is uint8 RGB (H, W, 3); inside networks it is float32 RGB
(3, H, W) in [0, 1]. OpenCV's BGR order is used only inside this module.
"""

import os
import shutil
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.Image import open as open_image
from PIL.TiffImagePlugin import TiffImageFile

if TYPE_CHECKING:
    import torch

PHOTO_FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
PHOTO_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}  # lower case
BROKEN_FILE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
ORIENTATION = 0x0112  # the EXIF tag
BITS_PER_SAMPLE = 258  # TIFF's tag
PNG_DEPTH = 24  # offset of the byte with the bits per channel in a PNG file
SMALLEST_SIDE = 32  # pixels, of images that can be degraded; data.degradations repeats it, to import no torch
DEPTH_UNITS_PER_METRE = 256  # KITTI's convention: a 16-bit PNG reaches 255.99 m in steps of 4 mm


class ImageError(ValueError):
    """An image file that cannot be read or does not have the expected layout; the text names the file."""


@dataclass(frozen=True)
class Photo:
    """A decoded image file of the source data.

    Attributes:
        pixels: uint8 RGB (H, W, 3).
        conversions: the changes that made the pixels 8-bit RGB, in words; empty if decoding was enough.
        reusable: whether the file is an 8-bit RGB PNG that `read_image` reads as the same pixels.
    """

    pixels: NDArray[np.uint8]
    conversions: tuple[str, ...]
    reusable: bool


def read_photo(path: Path, size: tuple[int, int] | None = None) -> Photo:
    """Decode an image file of any common kind to 8-bit RGB. Unlike `read_image` it refuses truncated files.

    16-bit values keep their upper 8 bits, grey and CMYK become RGB, and transparency is dropped.

    Args:
        path: a BMP, JPEG, PNG, TIFF or WebP file.
        size: (width, height) in pixels that the labels were made for. An image with an EXIF rotation is rotated
            only if it has this size rotated and not as stored. None: it is always rotated.

    Raises:
        ImageError: the file is missing, truncated or not an image of these formats.
    """
    try:
        with _opened(path) as file:
            file.load()
            upright, turning = _orient(file, size)
            pixels, conversions = _to_rgb(upright, _has_16_bits(path, file))
            plain = file.format == "PNG" and file.mode == "RGB" and not getattr(file, "is_animated", False)
            conversions = [*turning, *conversions]
            return Photo(pixels, tuple(conversions), plain and not conversions)
    except BROKEN_FILE as error:
        raise ImageError(f"{path}: {_reason(error)}") from error


def stored_size(path: Path) -> tuple[int, int] | None:
    """(width, height) in pixels from the header of an image file, or None if the header cannot be read."""
    try:
        with _opened(path) as file:
            return file.size
    except BROKEN_FILE:
        return None


def read_indices(path: Path) -> NDArray[np.uint8]:
    """Read a mask of the source data, with one channel or a palette, as uint8 class indices (H, W).

    Raises:
        ImageError: the file is missing or broken, has colours, or has indices above 255.
    """
    try:
        with _opened(path) as file:
            codes = np.asarray(file)
            if file.mode not in ("1", "L", "P", "I;16", "I") or codes.min() < 0 or codes.max() > 255:
                raise ImageError(f"{path}: expected one channel of class indices up to 255, got {file.mode}")
    except BROKEN_FILE as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{path}: {_reason(error)}") from error
    return codes.astype(np.uint8)


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read a PNG or JPEG as uint8 RGB (H, W, 3).

    Raises:
        ImageError: the file is missing or not an image.
    """
    image = _decode(path, cv2.IMREAD_COLOR)
    return np.ascontiguousarray(image[:, :, ::-1])


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
    _encode(path, image[:, :, ::-1])


def write_mask(path: Path, mask: NDArray[np.uint8]) -> None:
    """Write class indices, uint8 (H, W), as 8-bit PNG."""
    _encode(path, mask)


def write_depth(path: Path, depth: NDArray[np.float32]) -> None:
    """Write depth in metres (H, W) as 16-bit PNG; distances above 255.99 m are clipped."""
    codes = np.clip(np.rint(depth * DEPTH_UNITS_PER_METRE), 0, np.iinfo(np.uint16).max)
    _encode(path, codes.astype(np.uint16))


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


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image file without Pillow's warnings: serious problems raise an error when the pixels are read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with open_image(path, formats=PHOTO_FORMATS) as file:
            yield file


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


def _orient(file: Image.Image, size: tuple[int, int] | None) -> tuple[Image.Image, list[str]]:
    if file.getexif().get(ORIENTATION, 1) in (0, 1):
        return file, []
    turned = ImageOps.exif_transpose(file)
    if size is None or (turned.size == size and file.size != size):
        return turned, ["rotated by EXIF: turned upright"]
    return file, ["rotated by EXIF: kept as stored, as the labels are"]


def _has_16_bits(path: Path, file: Image.Image) -> bool:
    if file.format == "PNG":
        with path.open("rb") as header:
            return header.read(PNG_DEPTH + 1)[PNG_DEPTH] == 16
    if isinstance(file, TiffImageFile):
        return max(file.tag_v2.get(BITS_PER_SAMPLE, (8,))) == 16
    return file.mode.startswith("I")


def _to_rgb(image: Image.Image, has_16_bits: bool) -> tuple[NDArray[np.uint8], list[str]]:
    conversions = ["16-bit image: the upper 8 bits are kept"] if has_16_bits else []
    if image.mode == "F" or (image.mode == "I" and not has_16_bits):
        raise ImageError(f"pixels of mode {image.mode}, whose range is unknown")
    if image.mode.startswith("I"):
        codes = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        image = Image.fromarray((codes >> 8).astype(np.uint8))
    if image.mode in ("1", "L", "LA"):
        conversions.append("grey image: copied to three channels")
    if image.mode == "CMYK":
        conversions.append("CMYK image: converted to RGB")
    if image.has_transparency_data:
        conversions.append("image with transparency: its alpha channel is dropped")
    return np.asarray(image.convert("RGB"), dtype=np.uint8).copy(), conversions


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})"
    text = "not an image of a known format" if "cannot identify" in str(error) else str(error)
    return f"not a readable image ({text})"
