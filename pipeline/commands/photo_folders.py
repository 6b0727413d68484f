"""Restore a folder of photos: names and sub-folders are kept, unreadable files are listed.

`restored.jsonl` in the output folder has one line per restored image. A killed command continues from there.
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data import images
from data.photos import PHOTO_SUFFIXES, read_photo
from pipeline.running.progress import progress

RECORD = "restored.jsonl"
PARTIAL = ".partial.png"

Image = NDArray[np.uint8]
Restore = Callable[[Image], Image]


class FilesError(ValueError):
    """Files or folders that cannot be used. The text names them, and says what to do."""


@dataclass
class FolderResult:
    """The result of restoring one folder.

    Attributes:
        restored: number of images written by this run.
        skipped: number of images that an earlier run has written.
        faults: file and reason, for each image that could not be restored.
        conversions: how many images were changed to 8-bit RGB, by the kind of change.
        ignored: number of files that are no photos.
    """

    restored: int = 0
    skipped: int = 0
    faults: list[str] = field(default_factory=list)
    conversions: Counter[str] = field(default_factory=Counter)
    ignored: int = 0


def restore_folder(source: Path, target: Path, restore: Restore, settings_digest: str) -> FolderResult:
    """Restore every photo below a folder and write it as PNG.

    A photo whose name does not end in .png becomes <name>.png. If two photos would get the same name, the second one is
    a fault.

    Args:
        source: folder with BMP, JPEG, PNG, TIFF or WebP files at any depth.
        target: another folder, not within `source`; new, empty, or begun with the same digest.
        restore: uint8 RGB (H, W, 3) to the same; a FilesError that it raises is a fault of that image.
        settings_digest: of the restorer and its settings.

    Raises:
        FilesError: no photos; a target that has other content; a target that cannot be written.
    """
    _check_folders(source, target)
    files = sorted(path for path in source.rglob("*") if path.is_file())
    photos = [path for path in files if path.suffix.lower() in PHOTO_SUFFIXES]
    if not photos:
        raise FilesError(
            f"--input {source}: has no photos ({', '.join(sorted(PHOTO_SUFFIXES))}). Choose another folder."
        )
    result = FolderResult(ignored=len(files) - len(photos))
    try:
        record = _Record.open(target, source, settings_digest)
        _restore_photos(source, photos, target, restore, record, result)
    except OSError as error:
        raise FilesError(
            f"{error.filename or target}: cannot be written ({error.strerror}). Restored images are kept. "
            "Run the same command again to continue."
        ) from error
    return result


def _restore_photos(
    source: Path, photos: list[Path], target: Path, restore: Restore, record: "_Record", result: FolderResult
) -> None:
    targets = _target_names(source, photos, result)
    with progress(len(targets), f"restore {source}", "image") as bar:
        for path, name in targets.items():
            if record.is_restored(path, target / name):
                result.skipped += 1
            else:
                try:
                    photo = read_photo(path, exif="upright")
                    restored = restore(photo.pixels)
                except images.ImageError as error:
                    result.faults.append(str(error))
                except FilesError as error:
                    result.faults.append(f"{path}: {error}")
                else:
                    _write(target / name, restored)
                    record.add(path, photo.conversions)
                    result.restored += 1
                    result.conversions.update(_kind(text) for text in photo.conversions)
            bar.update()


def _kind(conversion: str) -> str:
    """The kind of a conversion. Advice about a key of params.yaml, and the numbers of one image, are left out."""
    return conversion.partition(":")[0] if "{key}" in conversion else conversion


def _target_names(source: Path, photos: list[Path], result: FolderResult) -> dict[Path, Path]:
    """The relative path of each photo's restored image; two photos for one path are a fault of the second."""
    names: dict[Path, Path] = {}
    taken: dict[Path, Path] = {}
    # Photos that keep their name come first: their names cannot change.
    for path in sorted(photos, key=lambda photo: (photo.suffix != ".png", photo)):
        name = path.relative_to(source).with_suffix(".png")
        if name in taken:
            result.faults.append(f"{path}: would be written as {name}, like {taken[name]}. Rename one of them.")
        else:
            taken[name], names[path] = path, name
    return names


def _write(path: Path, image: Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}{PARTIAL}")
    try:
        images.write_image(partial, image)
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)


def _check_folders(source: Path, target: Path) -> None:
    inner, outer = target.resolve(), source.resolve()
    if inner == outer or outer in inner.parents:
        raise FilesError(f"--output {target}: lies in --input {source}. Choose another folder.")
    if target.exists() and not target.is_dir():
        raise FilesError(f"--output {target}: is a file. Choose a folder.")
    if target.is_dir() and any(target.iterdir()) and not (target / RECORD).is_file():
        raise FilesError(f"--output {target}: has other files in it. Choose a new folder.")


class _Record:
    """restored.jsonl: the digest of the restorer and its settings, then a line for each restored image."""

    def __init__(self, path: Path, source: Path, photo_states: dict[str, Any]) -> None:
        self._path, self._source, self._photo_states = path, source, photo_states

    @classmethod
    def open(cls, folder: Path, source: Path, settings_digest: str) -> "_Record":
        """Read or begin the record of an output folder.

        Raises:
            FilesError: the folder was begun with another restorer or other settings.
        """
        path = folder / RECORD
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"made by": settings_digest}) + "\n")
        text = path.read_text()
        if not text.endswith("\n"):  # a kill has cut the last line off
            with path.open("a") as file:
                file.write("\n")
        lines = [line for line in map(_parse_line, text.splitlines()) if line]
        if not lines or lines[0].get("made by") != settings_digest:
            raise FilesError(
                f"--output {folder}: was made by another restorer or with other settings. Choose a new folder."
            )
        return cls(path, source, {line["file"]: line["state"] for line in lines[1:]})

    def is_restored(self, photo: Path, restored: Path) -> bool:
        """Whether the restored image exists, and its photo has not changed since."""
        name = photo.relative_to(self._source).as_posix()
        return restored.is_file() and self._photo_states.get(name) == _file_state(photo)

    def add(self, photo: Path, conversions: tuple[str, ...]) -> None:
        """Record that a photo is restored."""
        name = photo.relative_to(self._source).as_posix()
        line = {"file": name, "state": _file_state(photo), "conversions": list(conversions)}
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def _parse_line(line: str) -> dict[str, Any] | None:
    """A line of the record; None for a line that a kill has cut off."""
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) else None


def _file_state(path: Path) -> list[int]:
    """Size and time of change."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
