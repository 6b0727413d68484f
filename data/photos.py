"""Decode photos and masks of source data: every common format, EXIF rotation, 16 bits, palettes.

This is the only place that knows picture formats, the endings of their names, and the rule for EXIF.
"""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Transpose
from PIL.Image import open as open_image
from PIL.TiffImagePlugin import TiffImageFile

from .images import ImageError

Exif = Literal["size", "upright", "stored"]
Levels = tuple[int, int]

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
PHOTO_SUFFIXES = {".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jpx", ".mpo"}
PHOTO_SUFFIXES |= {".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}  # lower case
UNREADABLE_SUFFIXES = {".cr2", ".dng", ".heic", ".heif", ".nef"}  # pictures all the same: they become faults
TEXT_SUFFIXES = {
    ".csv",
    ".json",
    ".md",
    ".txt",
    ".xml",
    ".yaml",
    ".yml",
}  # not opened to see if they are pictures
SIGNATURES = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF8",
    b"II*\0",
    b"MM\0*",
    b"\0\0\0\x0cjP  ",
    b"\xff\x4f\xff\x51",
)
BOXED = {(b"RIFF", b"WEBP"), (b"ftyp", b"avif"), (b"ftyp", b"avis"), (b"ftyp", b"heic")}  # bytes 0-4 or 4-8, and 8-12
BROKEN_FILE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
ORIENTATION = 0x0112  # the EXIF tag
TURNS = {  # EXIF orientation -> what turns the stored pixels upright
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
UNDONE = {
    Transpose.ROTATE_270: Transpose.ROTATE_90,
    Transpose.ROTATE_90: Transpose.ROTATE_270,
}  # others are involutions
BITS_PER_SAMPLE = 258  # TIFF's tag
PNG_DEPTH = 24  # offset of the byte with the bits per channel in a PNG file
ALL_LEVELS: Levels = (0, 65535)
FRAMES = "several frames: the first is used"
NARROW = 4  # a 16-bit image that uses less than this fraction of the levels is in doubt


@dataclass(frozen=True)
class Photo:
    """A decoded image file of the source data.

    Attributes:
        pixels: uint8 RGB (H, W, 3).
        conversions: the changes that made the pixels 8-bit RGB, in words; empty if decoding was enough. `{key}` stands
            for the section of params.yaml that has the settings `exif` and `levels`.
        reusable: whether the file is an 8-bit RGB PNG that `images.read_image` reads as the same pixels.
    """

    pixels: NDArray[np.uint8]
    conversions: tuple[str, ...]
    reusable: bool


def is_picture_name(name: str) -> bool:
    """Whether a file's name ends as that of a picture."""
    suffix = Path(name).suffix.lower()
    return suffix in PHOTO_SUFFIXES or suffix in UNREADABLE_SUFFIXES


def is_picture(path: Path) -> bool:
    """Whether a file is a picture: by the ending of its name; by its content if the ending says nothing."""
    if is_picture_name(path.name):
        return True
    if path.suffix.lower() in TEXT_SUFFIXES:
        return False
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:
        return False
    return head.startswith(SIGNATURES) or bool({(head[:4], head[8:]), (head[4:8], head[8:])} & BOXED)


def read_photo(
    path: Path, size: tuple[int, int] | None = None, exif: Exif = "size", levels: Levels = ALL_LEVELS
) -> Photo:
    """Decode an image file of any common kind to 8-bit RGB. Unlike `images.read_image` it rejects truncated files.

    Grey and CMYK become RGB, transparency is dropped, and of several frames the first is used.

    Args:
        path: a file of one of `FORMATS`, whatever its name ends in.
        size: (width, height) in pixels that the labels were made for; None: unknown.
        exif: whether an image with an EXIF rotation is turned: "upright" always, "stored" never. "size": unless
            `size` fits the stored image alone; if it fits both, or is unknown, the conversions say so.
        levels: the values of 16-bit images that become 0 and 255. All levels keep the upper 8 bits.

    Raises:
        ImageError: the file is missing, truncated or not an image of these formats.
    """
    try:
        with _opened(path) as file:
            orientation = file.getexif().get(ORIENTATION, 1)
            file.load()
            plain = file.format == "PNG" and file.mode == "RGB" and not getattr(file, "is_animated", False)
            conversions = [] if getattr(file, "n_frames", 1) == 1 or file.format == "MPO" else [FRAMES]
            image, changes = _to_rgb(file, _codes(path, file), levels)
            # Pillow turns TIFF files when it loads them.
            stored, upright = _both(image, TURNS.get(orientation), isinstance(file, TiffImageFile))
        chosen, turning = _orient(stored, upright, orientation in TURNS, size, exif)
        conversions = [*turning, *conversions, *changes]
        pixels = np.asarray(chosen, dtype=np.uint8).copy()
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
    """Read a mask of the source data as uint8 class indices (H, W). Three equal channels count as one.

    Raises:
        ImageError: the file is missing or broken, has colours, or has indices above 255.
    """
    try:
        with _opened(path) as file:
            codes, mode = np.asarray(file), file.mode
        if mode in ("RGB", "RGBA", "LA") and (codes[..., :1] == codes[..., : 1 if mode == "LA" else 3]).all():
            codes, mode = codes[..., 0], "L"
        if mode not in ("1", "L", "P", "I;16", "I") or codes.min() < 0 or codes.max() > 255:
            what = mode if mode not in ("I;16", "I") else f"values up to {codes.max()}"
            raise ImageError(f"{path}: expected one channel of class indices up to 255, got {what}")
    except BROKEN_FILE as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{path}: {_reason(error)}") from error
    return codes.astype(np.uint8)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image file without Pillow's warnings: serious problems raise an error when the pixels are read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with open_image(path, formats=FORMATS) as file:
            yield file


def _codes(path: Path, file: Image.Image) -> NDArray[np.uint16] | None:
    """The values of a 16-bit image, (H, W) or (H, W, 3) in RGB order, as stored; None for other images."""
    if not _has_16_bits(path, file):
        return None
    if file.mode.startswith("I"):
        return np.clip(np.asarray(file).astype(np.int64), 0, ALL_LEVELS[1]).astype(np.uint16)
    codes = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)  # Pillow keeps 8 bits
    if codes is None or codes.dtype != np.uint16:
        return None
    return np.asarray(codes[:, :, 2::-1] if codes.ndim == 3 else codes, dtype=np.uint16)


def _has_16_bits(path: Path, file: Image.Image) -> bool:
    if file.format == "PNG":
        with path.open("rb") as header:
            return header.read(PNG_DEPTH + 1)[PNG_DEPTH] == 16
    if isinstance(file, TiffImageFile):
        bits = file.tag_v2.get(BITS_PER_SAMPLE, (8,))
        return max(bits if isinstance(bits, tuple) else (bits,)) == 16
    return file.mode.startswith("I")


def _to_rgb(image: Image.Image, codes: NDArray[np.uint16] | None, levels: Levels) -> tuple[Image.Image, list[str]]:
    conversions = []
    mode, has_transparency = image.mode, image.has_transparency_data
    if codes is not None:
        conversions.append(_wide(codes, levels))
        image = Image.fromarray(_to_8_bits(codes, levels))
        mode = "L" if codes.ndim == 2 else "RGB"
    elif mode.startswith(("F", "I")):
        raise ImageError(f"pixels of mode {mode}, whose range is unknown")
    if mode in ("1", "L", "LA"):
        conversions.append("grey image: copied to three channels")
    if mode in ("CMYK", "LAB"):
        conversions.append(f"{mode} image: converted to RGB")
    if has_transparency:
        conversions.append("image with transparency: its alpha channel is dropped")
    return image.convert("RGB"), conversions


def _wide(codes: NDArray[np.uint16], levels: Levels) -> str:
    low, high = int(codes.min()), int(codes.max())
    if (high - low) * NARROW < levels[1] - levels[0]:
        text = f"its values are {low} to {high} of {levels[0]} to {levels[1]}, so that it comes out dark or flat"
        return f"16-bit image of narrow range: {text}; set {{key}}.levels to the range of all images"
    if levels == ALL_LEVELS:
        return "16-bit image: the upper 8 bits are kept"
    return f"16-bit image: {levels[0]} to {levels[1]} became 0 to 255"


def _to_8_bits(codes: NDArray[np.uint16], levels: Levels) -> NDArray[np.uint8]:
    if levels == ALL_LEVELS:
        return (codes >> 8).astype(np.uint8)
    low, high = levels
    return np.rint((np.clip(codes, low, high).astype(np.float64) - low) * (255 / (high - low))).astype(np.uint8)


def _both(image: Image.Image, turn: Transpose | None, is_upright: bool) -> tuple[Image.Image, Image.Image]:
    """The image as stored, and turned by its EXIF."""
    if turn is None:
        return image, image
    if is_upright:
        return image.transpose(UNDONE.get(turn, turn)), image
    return image, image.transpose(turn)


def _orient(
    stored: Image.Image, upright: Image.Image, is_turned: bool, size: tuple[int, int] | None, exif: Exif
) -> tuple[Image.Image, list[str]]:
    """The rule for EXIF, of all readers."""
    if not is_turned:
        return stored, []
    fits_stored, fits_upright = (size in (None, image.size) for image in (stored, upright))
    if exif == "stored":
        return stored, ["rotated by EXIF: kept as stored"]
    if exif == "size" and fits_stored and not fits_upright:
        text = "kept as stored, because the labels give this size; if they were made on the upright image, set"
        return stored, [f"rotated by EXIF: {text} {{key}}.exif to upright"]
    if exif == "size" and fits_stored:
        text = "turned upright, but the size of the labels fits both ways; compare one with its labels, and set"
        return upright, [f"rotated by EXIF in doubt: {text} {{key}}.exif to upright or stored"]
    return upright, ["rotated by EXIF: turned upright"]


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})"
    text = "not an image of a known format" if "cannot identify" in str(error) else str(error)
    return f"not a readable image ({text})"
