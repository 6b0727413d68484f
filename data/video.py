"""Videos, frame by frame, through OpenCV. Frames are uint8 RGB (H, W, 3)."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

VIDEO_SUFFIXES = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".webm"}  # in small letters
CODECS = {".mp4": "mp4v", ".avi": "MJPG"}  # what is written: MPEG-4 part 2, and Motion JPEG
LIKELY_RATE = 25.0  # frames a second, where a file has none that makes sense

Frame = NDArray[np.uint8]


class VideoError(ValueError):
    """A video that cannot be read or written; the text names the file."""


class VideoReader:
    """The frames of a video, turned upright where the file says so.

    Attributes:
        rate: frames a second.
        frames: how many the file says that it has; 0 where it does not say.

    Raises:
        VideoError: the file is missing or no video that OpenCV reads.
    """

    def __init__(self, path: Path) -> None:
        self._capture = cv2.VideoCapture(str(path)) if path.is_file() else None
        if self._capture is None or not self._capture.isOpened():
            raise VideoError(f"{path}: {'not a readable video' if path.is_file() else 'no such file'}")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate <= 1000 else LIKELY_RATE
        self.frames = max(int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)

    def __iter__(self) -> Iterator[Frame]:
        assert self._capture is not None
        try:
            while True:
                found, frame = self._capture.read()
                if not found:
                    return
                yield np.ascontiguousarray(frame[:, :, ::-1])
        finally:
            self._capture.release()


class VideoWriter:
    """Writes frames of one size; the codec is that of the file's suffix in CODECS. There is no sound.

    OpenCV cuts the last row or column off where a size is odd: videos store colour in blocks of 2x2 pixels.

    Attributes:
        count: frames written.

    Args:
        path: the file.
        rate: frames a second.
        size: (height, width) of the frames in pixels.

    Raises:
        VideoError: a suffix without a codec, or OpenCV cannot write the file.
    """

    def __init__(self, path: Path, rate: float, size: tuple[int, int]) -> None:
        check_suffix(path)
        code = cv2.VideoWriter.fourcc(*CODECS[path.suffix.lower()])
        self._path, self._size = path, size
        self.count = 0
        self._writer = cv2.VideoWriter(str(path), code, rate, size[::-1])
        if not self._writer.isOpened():
            raise VideoError(f"{path}: OpenCV cannot write a video of {size[1]}x{size[0]} pixels there")

    def write(self, frame: Frame) -> None:
        """Append a frame.

        Raises:
            VideoError: it has another size.
        """
        if frame.shape[:2] != self._size:
            raise VideoError(f"{self._path}: a frame of {frame.shape[1]}x{frame.shape[0]} pixels among others")
        self._writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
        self.count += 1

    def close(self) -> None:
        """Finish the file, and look whether all frames are in it: OpenCV does not say when a disk is full.

        Raises:
            VideoError: they are not.
        """
        self._writer.release()
        found = VideoReader(self._path).frames
        if found != self.count:
            raise VideoError(f"{self._path}: {found} of {self.count} frames were written; is the disk full?")


def check_suffix(path: Path) -> None:
    """Whether a video can be written under this name.

    Raises:
        VideoError: there is no codec for its suffix.
    """
    if path.suffix.lower() not in CODECS:
        raise VideoError(f"{path}: videos are written as {' or '.join(CODECS)}, not as {path.suffix or 'a folder'!r}")
