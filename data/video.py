"""Read and write videos frame by frame with OpenCV. Frames are uint8 RGB (H, W, 3)."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

VIDEO_SUFFIXES = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".webm"}  # lower case
CODECS = {".mp4": "mp4v", ".avi": "MJPG"}  # codecs of written files: MPEG-4 part 2 and Motion JPEG
DEFAULT_RATE = 25.0  # frames per second, if a file states no plausible rate

Frame = NDArray[np.uint8]


class VideoError(ValueError):
    """A video that cannot be read or written; the message names the file."""


class VideoReader:
    """Iterates over the frames of a video, rotated as the file's metadata says.

    Attributes:
        rate: frames per second.
        frames: number of frames in the file's metadata; 0 if it is not stated.

    Raises:
        VideoError: the file is missing, or OpenCV cannot read it as a video.
    """

    def __init__(self, path: Path) -> None:
        self._capture = cv2.VideoCapture(str(path)) if path.is_file() else None
        if self._capture is None or not self._capture.isOpened():
            raise VideoError(
                f"{path}: {'OpenCV cannot read this video. Convert it to .mp4' if path.is_file() else 'no such file'}"
            )
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate <= 1000 else DEFAULT_RATE
        self.frames = max(int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)

    def __iter__(self) -> Iterator[Frame]:
        assert self._capture is not None
        try:
            while True:
                is_read, frame = self._capture.read()
                if not is_read:
                    return
                yield np.ascontiguousarray(frame[:, :, ::-1])
        finally:
            self._capture.release()


class VideoWriter:
    """Writes frames of one size, without sound. The file's suffix selects the codec (CODECS).

    OpenCV drops the last row or column of an odd size, because videos store colour in blocks of 2x2 pixels.

    Attributes:
        count: number of frames written.

    Args:
        path: the file to write.
        rate: frames per second.
        size: (height, width) of the frames in pixels.

    Raises:
        VideoError: the suffix has no codec, or OpenCV cannot write the file.
    """

    def __init__(self, path: Path, rate: float, size: tuple[int, int]) -> None:
        check_suffix(path)
        code = cv2.VideoWriter.fourcc(*CODECS[path.suffix.lower()])
        self._path, self._size = path, size
        self.count = 0
        self._writer = cv2.VideoWriter(str(path), code, rate, size[::-1])
        if not self._writer.isOpened():
            raise VideoError(
                f"{path}: OpenCV cannot write a video of {size[1]}x{size[0]} pixels here. Choose another folder or size"
            )

    def write(self, frame: Frame) -> None:
        """Append a frame, uint8 RGB (H, W, 3).

        Raises:
            VideoError: the frame has another size than the video.
        """
        if frame.shape[:2] != self._size:
            raise VideoError(
                f"{self._path}: frames of {self._size[1]}x{self._size[0]} pixels expected, got one of "
                f"{frame.shape[1]}x{frame.shape[0]}. Write one video for each size"
            )
        self._writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
        self.count += 1

    def close(self) -> None:
        """Close the file and check that it holds all frames, because OpenCV does not report a full disk.

        Raises:
            VideoError: frames are missing from the file.
        """
        self._writer.release()
        written = VideoReader(self._path).frames
        if written != self.count:
            raise VideoError(f"{self._path}: only {written} of {self.count} frames were written. Check for a full disk")


def check_suffix(path: Path) -> None:
    """Check that a video can be written under this name.

    Raises:
        VideoError: the suffix has no codec.
    """
    if path.suffix.lower() not in CODECS:
        raise VideoError(f"{path}: cannot write a video with the suffix {path.suffix!r}. Use {' or '.join(CODECS)}")
