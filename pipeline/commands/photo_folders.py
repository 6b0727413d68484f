"""A folder of photos through a restorer: names and sub-folders are kept, a bad file is listed. Not a stage.

What is finished stays finished: `restored.jsonl` in the output folder has a line for each image, and the same command
goes on behind the last one.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data import images
from pipeline.running.progress import progress

RECORD = "restored.jsonl"
PARTIAL = ".partial.png"

Image = NDArray[np.uint8]
Restore = Callable[[Image], Image]


class FilesError(ValueError):
    """Folders that cannot be used as asked; the text names them and says what to do."""


@dataclass
class Done:
    """What became of a folder.

    Attributes:
        restored: images written now.
        before: images that an earlier run had written.
        faults: file and what is wrong with it.
        conversions: how many images had to be changed to 8-bit RGB, by what was changed.
        ignored: files that are no photos.
    """

    restored: int = 0
    before: int = 0
    faults: list[str] = field(default_factory=list)
    conversions: Counter[str] = field(default_factory=Counter)
    ignored: int = 0


def restore_folder(source: Path, target: Path, restore: Restore, identity: str) -> Done:
    """Restore every photo below a folder as PNG, each as soon as it is read.

    A photo whose name is not .png becomes <name>.png; of two that would get the same name, the second is a fault.

    Args:
        source: folder with BMP, JPEG, PNG, TIFF or WebP files at any depth.
        target: another folder, not within `source`; new, empty, or begun by the same identity.
        restore: uint8 RGB (H, W, 3) to the same; a FilesError that it raises is a fault of that image.
        identity: a digest of the restorer and its settings.

    Raises:
        FilesError: no photos, a target that is something else's, or one that cannot be written.
    """
    _check(source, target)
    found = sorted(path for path in source.rglob("*") if path.is_file())
    photos = [path for path in found if path.suffix.lower() in images.PHOTO_SUFFIXES]
    if not photos:
        raise FilesError(f"--input {source}: no photos in it ({', '.join(sorted(images.PHOTO_SUFFIXES))})")
    done = Done(ignored=len(found) - len(photos))
    try:
        _restore_all(source, photos, target, restore, _Record.open(target, identity), done)
    except OSError as error:
        raise FilesError(
            f"{error.filename or target}: cannot be written ({error.strerror}); what is finished stays, and the same "
            "command goes on from there"
        ) from error
    return done


def _restore_all(
    source: Path, photos: list[Path], target: Path, restore: Restore, record: "_Record", done: Done
) -> None:
    named = list(_named(source, photos, done))
    with progress(len(named), f"restore {source}", "image") as bar:
        for path, name in named:
            written = target / name
            if record.has(path.relative_to(source), path, written):
                done.before += 1
            else:
                try:
                    photo = images.read_photo(path)
                    restored = restore(photo.pixels)
                except images.ImageError as error:
                    done.faults.append(str(error))
                except FilesError as error:
                    done.faults.append(f"{path}: {error}")
                else:
                    _write(written, restored)
                    record.add(path.relative_to(source), path, photo.conversions)
                    done.restored += 1
                    done.conversions.update(photo.conversions)
            bar.update()


def _named(source: Path, photos: list[Path], done: Done) -> Iterator[tuple[Path, Path]]:
    """Each photo with the name of its result."""
    owners: dict[Path, Path] = {}
    # Those that keep their names come first: they cannot give way.
    for path in sorted(photos, key=lambda photo: (photo.suffix != ".png", photo)):
        name = path.relative_to(source).with_suffix(".png")
        if name in owners:
            done.faults.append(f"{path}: would be written as {name}, as {owners[name]} is; rename one of them")
        else:
            owners[name] = path
            yield path, name


def _write(path: Path, image: Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}{PARTIAL}")
    try:
        images.write_image(partial, image)
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)


def _check(source: Path, target: Path) -> None:
    inner, outer = target.resolve(), source.resolve()
    if inner == outer or outer in inner.parents:
        raise FilesError(f"--output {target}: lies in --input {source}; choose another folder")
    if target.exists() and not target.is_dir():
        raise FilesError(f"--output {target}: is a file; a folder of photos needs a folder")
    if target.is_dir() and any(target.iterdir()) and not (target / RECORD).is_file():
        raise FilesError(f"--output {target}: has other files in it; choose a new folder")


class _Record:
    """Which images are finished: a line each, and first the identity of what made them."""

    def __init__(self, path: Path, known: dict[str, Any]) -> None:
        self._path, self._known = path, known

    @classmethod
    def open(cls, folder: Path, identity: str) -> "_Record":
        """Read or begin the record of a folder.

        Raises:
            FilesError: the folder was begun with another restorer or other settings.
        """
        path = folder / RECORD
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"made by": identity}) + "\n")
        text = path.read_text()
        if not text.endswith("\n"):  # a kill has cut the last line off
            with path.open("a") as file:
                file.write("\n")
        lines = [line for line in map(_entry, text.splitlines()) if line]
        if not lines or lines[0].get("made by") != identity:
            raise FilesError(
                f"--output {folder}: was made by another restorer or with other settings; choose a new folder"
            )
        return cls(path, {line["file"]: line for line in lines[1:]})

    def has(self, name: Path, source: Path, written: Path) -> bool:
        """Whether the image is finished, and its source still the same."""
        known = self._known.get(name.as_posix())
        return known is not None and written.is_file() and known["state"] == _state(source)

    def add(self, name: Path, source: Path, conversions: tuple[str, ...]) -> None:
        """Note that it is."""
        line = {"file": name.as_posix(), "state": _state(source), "conversions": list(conversions)}
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def _entry(line: str) -> dict[str, Any] | None:
    """A line of the record; None for one that a kill has cut off."""
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) else None


def _state(source: Path) -> list[int]:
    status = source.stat()
    return [status.st_size, status.st_mtime_ns]
