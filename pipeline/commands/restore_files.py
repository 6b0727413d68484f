"""Command: a folder of photos, or a video, through a restorer.

    python -m pipeline.restore_files --restorer deployed/fog-diffloss --input photos --output restored
    python -m pipeline.restore_files --restorer weights/dehaze.pth --input drive.mp4 --output clear.mp4 --tile 512

Photos (BMP, JPEG, PNG, TIFF, WebP) become 8-bit RGB PNG files of the same names, in the same sub-folders: upright by
their EXIF, without alpha, of 16 bits the upper 8. A file that cannot be read is listed and left out, and the command
ends with 1. Killed, the same command goes on; a video starts again. Videos become .mp4 (MPEG-4 part 2) or .avi (Motion
JPEG) with the same frame rate and size, without sound; OpenCV cuts the last row or column of odd sizes.
With --gate and --network, images that a gate of `python -m pipeline.gate` would not restore stay as they are.
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
from pipeline.commands.gate_model import GATE_FILE, Gated
from pipeline.commands.photo_folders import Done, FilesError, restore_folder
from pipeline.running.artifacts import trained_file
from pipeline.running.entry import run_command
from pipeline.running.progress import progress
from pipeline.running.seeds import choose_device

ONNX = ".onnx"
OVERLAP = 64  # pixels
SHOWN = 20  # bad files

Image = NDArray[np.uint8]


def restorer_file(place: Path) -> Path:
    """The file of a restorer: itself, or the one in a folder that `deploy` or a training wrote.

    Raises:
        FilesError: there is none.
    """
    if not place.is_dir():
        return place
    candidates = [place / f"restorer{ONNX}", trained_file(place)]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise FilesError(f"--restorer {place}: neither {' nor '.join(path.name for path in candidates)} is in it")
    return found


def build(file: Path, tile: int | None, overlap: int) -> Callable[[Image], Image]:
    """What turns uint8 RGB (H, W, 3) into the restored image, or raises FilesError where memory does not suffice.

    Raises:
        models.restorers.RestorerError: the file cannot be read.
    """
    on_cpu = file.suffix == ONNX
    device = torch.device("cpu") if on_cpu else choose_device()
    restorer: Restorer = load_onnx(file) if on_cpu else load_restorer(file).to(device)

    def restore(image: Image) -> Image:
        batch = images.to_tensor(image)[None].to(device)
        try:
            with torch.inference_mode():
                restored = restorer(batch) if tile is None else restore_tiled(restorer, batch, tile, overlap)
        except (RuntimeError, MemoryError) as error:
            if "alloc" not in str(error) and "memory" not in str(error):
                raise
            height, width = _size(image)
            raise FilesError(f"{width}x{height} pixels do not fit into memory; use a smaller --tile") from error
        return images.to_uint8(restored[0])

    return restore


def restore_video(source: Path, target: Path, restore: Callable[[Image], Image]) -> list[str]:
    """Restore a video frame by frame; returns what is wrong with it.

    The result appears when it is whole.

    Raises:
        data.video.VideoError: it cannot be read or written.
        FilesError: the target exists.
    """
    check_suffix(target)
    if target.exists():
        raise FilesError(f"--output {target}: exists; choose another name")
    reader, writer = VideoReader(source), None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FilesError(f"--output {target}: cannot be written ({error.strerror})") from error
    scratch = target.with_name(f".{target.stem}.partial{target.suffix}")
    try:
        with progress(reader.frames, f"restore {source}", "frame") as bar:
            for frame in reader:
                writer = writer or VideoWriter(scratch, reader.rate, _size(frame))
                writer.write(restore(frame))
                bar.update()
        if writer is None:
            raise FilesError(f"--input {source}: no frame in it can be read")
        writer.close()
        scratch.rename(target)
    finally:
        scratch.unlink(missing_ok=True)
    missing = writer.count < reader.frames
    return [f"{source}: {writer.count} frames of {reader.frames} could be read"] if missing else []


def _size(image: Image) -> tuple[int, int]:
    """(height, width) in pixels."""
    height, width = image.shape[:2]
    return height, width


def _identity(options: Namespace, file: Path) -> str:
    """A digest of all that the pixels depend on."""
    gate = [options.gate / GATE_FILE, *sorted(options.network.iterdir())] if options.gate else []
    contents = []
    for path in (file, *gate):
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
    parser.add_argument("--gate", type=Path, help="folder of a gate: images that it would not restore stay as they are")
    parser.add_argument("--network", type=Path, help="with --gate: folder of its task's network")
    return parser.parse_args()


def _check(options: Namespace) -> None:
    if not options.input.exists():
        raise FilesError(f"--input {options.input}: no such folder or video")
    if options.input.is_file() and options.input.suffix.lower() not in VIDEO_SUFFIXES:
        raise FilesError(f"--input {options.input}: neither a folder nor a video ({', '.join(sorted(VIDEO_SUFFIXES))})")
    if (options.gate is None) != (options.network is None):
        raise FilesError("--gate and --network go together: the gate looks at what the network finds")
    if options.tile is not None and not 0 <= 2 * options.overlap <= options.tile:
        raise FilesError(f"--overlap {options.overlap}: must lie between 0 and half of --tile {options.tile}")


def _report(done: Done, target: Path) -> None:
    print(f"{done.restored} images restored into {target}" + (f", {done.before} were there" if done.before else ""))
    for text, count in sorted(done.conversions.items()):
        print(f"{count} of them: {text}")
    if done.ignored:
        print(f"{done.ignored} files are no photos and were left out")


def main() -> None:
    """Command line."""
    options = _options()
    _check(options)
    file = restorer_file(options.restorer)
    restore = build(file, options.tile, options.overlap)
    gated = Gated(restore, options.gate, options.network) if options.gate else None
    restore = gated or restore
    if options.input.is_dir():
        done = restore_folder(options.input, options.output, restore, _identity(options, file))
        _report(done, options.output)
        faults = done.faults
    else:
        faults = restore_video(options.input, options.output, restore)
        print(f"{options.output}: the same frame rate; the sound, if there was any, is not in it")
    if gated:
        print(f"the gate left {gated.kept} of them as they were")
    if faults:
        more = [f"and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
        sys.exit("\n".join([f"{len(faults)} could not be restored:", *faults[:SHOWN], *more]))


if __name__ == "__main__":
    run_command(main)
