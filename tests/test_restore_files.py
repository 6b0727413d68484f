"""Folders and videos through a restorer."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from data import images
from data.photos import ORIENTATION
from data.video import VideoError, VideoReader, VideoWriter
from models.restorers import build_restorer, contract, load_restorer, save_restorer
from models.restorers.contract import Restorer
from models.restorers.onnx_file import export_onnx
from pipeline.commands import restore_files
from pipeline.commands.photo_folders import RECORD, FilesError, restore_folder

SETTINGS = {"width": 8, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]}


def _restorer() -> Restorer:
    """Far from the identity."""
    torch.manual_seed(3)
    found = build_restorer("nafnet", SETTINGS)
    for parameter in found.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return found.eval()


@pytest.fixture
def restorer(tmp_path: Path) -> Path:
    """A folder with a restorer."""
    (tmp_path / "trained").mkdir()
    save_restorer(tmp_path / "trained" / "restorer.safetensors", _restorer())
    return tmp_path / "trained"


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same restorer, exported once for all tests."""
    file = tmp_path_factory.mktemp("onnx") / "restorer.onnx"
    export_onnx(_restorer(), file)
    return file


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    (folder / "night" / "deep").mkdir(parents=True)
    for name, size in (("a.png", (33, 47)), ("night/b.png", (20, 64)), ("night/deep/c.png", (70, 50))):
        images.write_image(folder / name, rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    monkeypatch.chdir(tmp_path)

    def do(*words: object) -> None:
        monkeypatch.setattr(sys, "argv", ["restore_files", *map(str, words)])
        restore_files.main()

    return do


def _names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {RECORD}


def _invert(image: restore_files.Image) -> restore_files.Image:
    return 255 - image


@pytest.mark.parametrize("tile", [None, 32])
@pytest.mark.parametrize("onnx", [False, True])
def test_a_folder_keeps_its_names(
    restorer: Path, onnx_file: Path, photos: Path, run: Callable[..., None], tile: int | None, onnx: bool
) -> None:
    network = load_restorer(restorer / "restorer.safetensors")
    if onnx:
        shutil.copy(onnx_file, restorer)  # which then is what is taken
    out = photos.parent / "out"
    words = ("--tile", tile, "--overlap", 8) if tile else ()
    run("--restorer", restorer, "--input", photos, "--output", out, *words)
    assert _names(out) == _names(photos)
    for name in _names(photos):
        image, found = images.read_image(photos / name), images.read_image(out / name)
        with torch.inference_mode():
            batch = images.to_tensor(image)[None]
            whole = images.to_uint8(network(batch)[0])
            expected = images.to_uint8(contract.restore_tiled(network, batch, 32, 8)[0]) if tile else whole
        assert np.abs(found.astype(int) - expected).max() <= (1 if onnx else 0)
        assert np.abs(found.astype(int) - image).max() > 10


def test_a_killed_folder_goes_on(photos: Path) -> None:
    seen: list[int] = []

    def restore(image: restore_files.Image) -> restore_files.Image:
        seen.append(len(image))
        if len(seen) == 2:
            raise KeyboardInterrupt
        return _invert(image)

    out = photos.parent / "out"
    with pytest.raises(KeyboardInterrupt):
        restore_folder(photos, out, restore, "one")
    assert _names(out) == {"a.png"}
    with (out / RECORD).open("a") as file:
        file.write('{"file": "night/b.p')  # as a kill leaves it
    done = restore_folder(photos, out, restore, "one")
    assert (done.restored, done.skipped, len(seen)) == (2, 1, 4)
    again = restore_folder(photos, out, restore, "one")
    assert (again.restored, again.skipped, len(seen)) == (0, 3, 4)
    assert _names(out) == _names(photos)
    images.write_image(photos / "a.png", np.zeros((9, 9, 3), np.uint8))
    (out / "night" / "b.png").unlink()
    assert restore_folder(photos, out, restore, "one").restored == 2
    assert images.read_image(out / "a.png").shape == (9, 9, 3)


def test_bad_files_are_listed_and_the_others_restored(
    restorer: Path, photos: Path, run: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "broken.jpg").write_bytes(b"no photo")
    (photos / "notes.txt").write_text("no photo either")
    data = (photos / "a.png").read_bytes()
    (photos / "night" / "cut.png").write_bytes(data[: len(data) // 2])
    shutil.copy(photos / "a.png", photos / "twin.png")
    Pillow.open(photos / "a.png").save(photos / "twin.bmp")
    out = photos.parent / "out"
    with pytest.raises(SystemExit) as caught:
        run("--restorer", restorer, "--input", photos, "--output", out)
    lines = str(caught.value.code).splitlines()
    assert lines[0] == "3 could not be restored:" and len(lines) == 4
    for name, line in zip(["twin.bmp", "night/cut.png", "broken.jpg"], lines[1:], strict=True):
        assert str(photos / name) in line
    assert _names(out) == {"a.png", "night/b.png", "night/deep/c.png", "twin.png"}
    assert "1 files are no photos" in capsys.readouterr().out


def test_photos_of_every_kind(photos: Path) -> None:
    grey = np.arange(32 * 40, dtype=np.uint8).reshape(32, 40)
    kinds = photos.parent / "kinds"
    kinds.mkdir()
    Pillow.fromarray(grey).save(kinds / "grey.tiff")
    Pillow.fromarray(grey.astype(np.uint16) * 256).save(kinds / "deep.png")
    Pillow.fromarray(np.dstack([grey] * 4)).save(kinds / "clear.png")
    turned = Pillow.fromarray(np.dstack([grey] * 3))
    exif = turned.getexif()
    exif[ORIENTATION] = 6
    turned.save(kinds / "turned.jpg", exif=exif)
    out = photos.parent / "out"
    done = restore_folder(kinds, out, _invert, "one")
    assert not done.faults and done.restored == 4
    assert {text.partition(":")[0] for text in done.conversions} == {
        "grey image",
        "16-bit image",
        "image with transparency",
        "rotated by EXIF",
    }
    assert images.read_image(out / "turned.png").shape == (40, 32, 3)
    for name in ("grey", "deep", "clear"):
        assert (images.read_image(out / f"{name}.png") == 255 - grey[:, :, None]).all()


def test_an_image_too_large_for_memory_is_a_fault(photos: Path, restorer: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9e15 bytes")

    restore = restore_files.load_restore(restorer / "restorer.safetensors", 32, 8)
    monkeypatch.setattr(restore_files, "restore_tiled", fail)
    done = restore_folder(photos, photos.parent / "out", restore, "one")
    assert (
        len(done.faults) == 3 and "a.png: 47x33 pixels do not fit into memory. Use a smaller --tile" in done.faults[0]
    )


def test_folders_that_cannot_be_used(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    restore_folder(photos, tmp_path / "out", _invert, "one")
    cases = [
        (tmp_path / "empty", tmp_path / "new", "has no photos"),
        (photos, photos / "restored", "lies in --input"),
        (photos, photos, "lies in --input"),
        (photos, tmp_path / "full", "has other files in it"),
        (photos, tmp_path / "full" / "mine.txt", "is a file"),
        (photos, tmp_path / "out", "made by another restorer"),
    ]
    for source, target, said in cases:
        with pytest.raises(FilesError, match=said):
            restore_folder(source, target, _invert, "two")
    assert (tmp_path / "full" / "mine.txt").read_text() == "keep"


def _video(path: Path, frames: int = 6, size: tuple[int, int] = (48, 64)) -> None:
    writer = VideoWriter(path, 12.5, size)
    for number in range(frames):
        writer.write(np.full((*size, 3), [40 * number, 100, 200], dtype=np.uint8))
    writer.close()


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_video_keeps_rate_size_and_colours(
    restorer: Path, tmp_path: Path, run: Callable[..., None], capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    _video(tmp_path / "in.mp4")
    out = tmp_path / f"out{suffix}"
    run("--restorer", restorer, "--input", tmp_path / "in.mp4", "--output", out)
    assert "sound" in capsys.readouterr().out
    reader = VideoReader(out)
    assert (reader.rate, reader.frames) == (12.5, 6)
    restore = restore_files.load_restore(restorer / "restorer.safetensors", None, 0)
    for source, found in zip(VideoReader(tmp_path / "in.mp4"), reader, strict=True):
        assert found.shape == (48, 64, 3)
        assert np.abs(found.astype(int) - restore(source)).mean() < 12  # codecs lose; swapped colours lose far more
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"in.mp4", out.name}


def test_videos_that_cannot_be_used(tmp_path: Path) -> None:
    _video(tmp_path / "in.avi")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "there.mp4").write_bytes(b"mine")
    for source, target, said in (
        ("in.avi", "out.mkv", "Use .mp4 or .avi"),
        ("in.avi", "there.mp4", "exists"),
        ("broken.mp4", "out.mp4", "OpenCV cannot read this video"),
        ("none.mp4", "out.mp4", "no such file"),
    ):
        with pytest.raises((FilesError, VideoError), match=said):
            restore_files.restore_video(tmp_path / source, tmp_path / target, _invert)
    assert (tmp_path / "there.mp4").read_bytes() == b"mine"
    writer = VideoWriter(tmp_path / "noise.avi", 10, (120, 160))
    for frame in np.random.default_rng(0).integers(0, 256, (6, 120, 160, 3), dtype=np.uint8):
        writer.write(frame)
    writer.close()
    content = (tmp_path / "noise.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(content[: 2 * len(content) // 3])
    faults = restore_files.restore_video(tmp_path / "cut.avi", tmp_path / "out.avi", _invert)
    assert faults and "frames of 6 could be read" in faults[0]


def test_options_that_do_not_fit(restorer: Path, photos: Path, run: Callable[..., None]) -> None:
    ours = ("--restorer", restorer)
    for words, said in (
        ((*ours, "--input", photos / "none", "--output", "out"), "no such folder or video"),
        ((*ours, "--input", photos / "a.png", "--output", "out"), "neither a folder nor a video"),
        ((*ours, "--input", photos, "--output", "out", "--tile", 32), "half of --tile 32"),
        (("--restorer", photos, "--input", photos, "--output", "out"), "this folder has no restorer.onnx and no"),
    ):
        with pytest.raises(FilesError, match=said):
            run(*words)
