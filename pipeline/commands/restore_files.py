"""Command: restore a folder of photos, or a video.

    python -m pipeline.commands.restore_files --restorer deployed/fog-diffloss --input photos --output restored
    python -m pipeline.commands.restore_files --restorer weights/dehaze.pth --input drive.mp4 --output clear.mp4

- Photos (BMP, JPEG, PNG, TIFF, WebP) become 8-bit RGB PNG files of the same names, in the same sub-folders. They are
  rotated as their EXIF says, lose alpha, and keep the upper 8 of 16 bits.
- Videos become .mp4 (MPEG-4 part 2) or .avi (Motion JPEG) with the same frame rate and size, without sound. OpenCV cuts
  the last row or column of odd sizes.
- Files that cannot be read are listed at the end, and the exit code is 1.
- After a kill, run the same command again: a folder continues, a video starts again.
- With --gate and --network, images stay unchanged if the gate of `python -m pipeline.commands.gate` predicts no gain.
"""

import hashlib
import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from data import images
from data.video import VIDEO_SUFFIXES, VideoReader, VideoWriter, check_suffix
from models.restorers import load_restorer
from models.restorers.contract import Restorer, restore_tiled
from models.restorers.onnx_file import load_onnx
from models.tasks import get_task
from pipeline.commands.gate_model import ALWAYS, GATE_FILE, Gate, GateError, image_features, output_features
from pipeline.commands.photo_folders import FilesError, FolderResult, Restore, restore_folder
from pipeline.running.artifacts import trained_file
from pipeline.running.entry import run_command
from pipeline.running.progress import progress
from pipeline.running.seeds import choose_device

ONNX = ".onnx"
OVERLAP = 64  # pixels
LISTED_FAULTS = 20

Image = NDArray[np.uint8]


class GatedRestorer:
    """Restores the images for which a gate predicts a gain, and returns all others unchanged.

    Args:
        restore: uint8 RGB (H, W, 3) to the same.
        gate: the folder that `python -m pipeline.commands.gate` wrote.
        network: the folder of the task network that the gate was fitted with.

    Attributes:
        unchanged: number of images that were returned unchanged.

    Raises:
        GateError: the gate or its task network cannot be read.
    """

    def __init__(self, restore: Restore, gate: Path, network: Path) -> None:
        self._restore, self.unchanged = restore, 0
        self._gate, about = Gate.load(gate / GATE_FILE)
        task = str(about["task"])
        if not network.is_dir():
            raise GateError(f"--network {network}: no such folder. Give the folder of the network of {task}.")
        try:
            self._task = get_task(task).load(network, choose_device())
        except (OSError, KeyError, ValueError) as error:
            raise GateError(
                f"--network {network}: not a network of {task} ({error}). Give the network of the gate."
            ) from error

    def __call__(self, image: Image) -> Image:
        if self._predicts_gain(image):
            return self._restore(image)
        self.unchanged += 1
        return image

    def _predicts_gain(self, image: Image) -> bool:
        if isinstance(self._gate.threshold, str):
            return self._gate.threshold == ALWAYS
        return self._gate.decide(image_features(image) | output_features(self._task.predict(image)))


def restorer_file(path: Path) -> Path:
    """The file of a restorer: `path` itself, or the file in a folder that `deploy` or a training wrote.

    Raises:
        FilesError: the folder has no such file.
    """
    if not path.is_dir():
        return path
    candidates = [path / f"restorer{ONNX}", trained_file(path)]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    names = " and no ".join(file.name for file in candidates)
    raise FilesError(f"--restorer {path}: this folder has no {names}. Give a file, or a folder that has one of them.")


def load_restore(file: Path, tile: int | None, overlap: int) -> Restore:
    """A function that restores a uint8 RGB image (H, W, 3).

    It raises FilesError if the image does not fit into memory.

    Raises:
        models.restorers.RestorerError: the file cannot be read.
    """
    is_onnx = file.suffix == ONNX
    device = torch.device("cpu") if is_onnx else choose_device()
    restorer: Restorer = load_onnx(file) if is_onnx else load_restorer(file).to(device)

    def restore(image: Image) -> Image:
        batch = images.to_tensor(image)[None].to(device)
        try:
            with torch.inference_mode():
                restored = restorer(batch) if tile is None else restore_tiled(restorer, batch, tile, overlap)
        except (RuntimeError, MemoryError) as error:
            if "alloc" not in str(error) and "memory" not in str(error):
                raise
            height, width = _size(image)
            raise FilesError(f"{width}x{height} pixels do not fit into memory. Use a smaller --tile.") from error
        return images.to_uint8(restored[0])

    return restore


def restore_video(source: Path, target: Path, restore: Callable[[Image], Image]) -> list[str]:
    """Restore a video frame by frame. The target file appears when it is complete.

    Returns:
        One line if fewer frames could be read than the header promises, else nothing.

    Raises:
        data.video.VideoError: the video cannot be read or written.
        FilesError: the target exists or cannot be written.
    """
    check_suffix(target)
    if target.exists():
        raise FilesError(f"--output {target}: exists. Choose another name.")
    reader, writer = VideoReader(source), None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FilesError(f"--output {target}: cannot be written ({error.strerror}). Choose another folder.") from error
    partial = target.with_name(f".{target.stem}.partial{target.suffix}")
    try:
        with progress(reader.frames, f"restore {source}", "frame") as bar:
            for frame in reader:
                writer = writer or VideoWriter(partial, reader.rate, _size(frame))
                writer.write(restore(frame))
                bar.update()
        if writer is None:
            raise FilesError(f"--input {source}: no frame can be read. Convert the video to another format.")
        writer.close()
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)
    if writer.count < reader.frames:
        return [f"{source}: {writer.count} frames of {reader.frames} could be read"]
    return []


def _size(image: Image) -> tuple[int, int]:
    """(height, width) in pixels."""
    height, width = image.shape[:2]
    return height, width


def _settings_digest(options: Namespace, file: Path) -> str:
    """A digest of everything that the restored pixels depend on, except the photos."""
    gate_files = [options.gate / GATE_FILE, *sorted(options.network.iterdir())] if options.gate else []
    contents = []
    for path in (file, *gate_files):
        with path.open("rb") as stream:
            contents.append(hashlib.file_digest(stream, "sha256").hexdigest())
    settings = [contents, file.suffix, options.tile, options.overlap if options.tile else None]
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m pipeline.commands.restore_files", description=__doc__)
    parser.add_argument(
        "--restorer", type=Path, required=True, help=".onnx, .safetensors, a file that spandrel reads, or their folder"
    )
    parser.add_argument("--input", type=Path, required=True, help="a folder of photos, or a video")
    parser.add_argument("--output", type=Path, required=True, help="a folder, or a .mp4 or .avi file")
    parser.add_argument("--tile", type=int, help="side of the tiles that larger images are cut into (none)")
    parser.add_argument("--overlap", type=int, default=OVERLAP, help="of tiles, in pixels (%(default)s)")
    parser.add_argument("--gate", type=Path, help="folder of a gate: images that it would not restore stay unchanged")
    parser.add_argument("--network", type=Path, help="with --gate: folder of its task network")
    return parser.parse_args()


def _check_options(options: Namespace) -> None:
    if not options.input.exists():
        raise FilesError(f"--input {options.input}: no such folder or video. Correct the path.")
    if options.input.is_file() and options.input.suffix.lower() not in VIDEO_SUFFIXES:
        suffixes = ", ".join(sorted(VIDEO_SUFFIXES))
        raise FilesError(f"--input {options.input}: neither a folder nor a video. Give a folder, or one of {suffixes}.")
    if (options.gate is None) != (options.network is None):
        raise FilesError(
            "--gate: needs --network, whose predictions the gate uses, and the reverse. Give both, or neither."
        )
    if options.tile is not None and not 0 <= 2 * options.overlap <= options.tile:
        raise FilesError(
            f"--overlap {options.overlap}: must lie between 0 and half of --tile {options.tile}. Change it."
        )


def _print_result(result: FolderResult, target: Path) -> None:
    earlier = f", {result.skipped} had been restored before" if result.skipped else ""
    print(f"{result.restored} images restored into {target}{earlier}")
    for conversion, count in sorted(result.conversions.items()):
        print(f"{count} of them: {conversion}")
    if result.ignored:
        print(f"{result.ignored} files are no photos and were left out")


def main() -> None:
    """Command line."""
    options = _options()
    _check_options(options)
    file = restorer_file(options.restorer)
    restore = load_restore(file, options.tile, options.overlap)
    gated = GatedRestorer(restore, options.gate, options.network) if options.gate else None
    if options.input.is_dir():
        result = restore_folder(options.input, options.output, gated or restore, _settings_digest(options, file))
        _print_result(result, options.output)
        faults = result.faults
    else:
        faults = restore_video(options.input, options.output, gated or restore)
        print(f"{options.output}: the frame rate is unchanged, sound is not kept")
    if gated:
        print(f"the gate left {gated.unchanged} images unchanged")
    if faults:
        more = [f"and {len(faults) - LISTED_FAULTS} more"] if len(faults) > LISTED_FAULTS else []
        sys.exit("\n".join([f"{len(faults)} could not be restored:", *faults[:LISTED_FAULTS], *more]))


if __name__ == "__main__":
    run_command(main)
