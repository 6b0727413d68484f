from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from data import images, photos


def _random(shape: tuple[int, ...], dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def test_image_round_trip_and_channel_order(tmp_path: Path) -> None:
    image = _random((7, 9, 3))
    images.write_image(tmp_path / "a.png", image)
    assert np.array_equal(images.read_image(tmp_path / "a.png"), image)
    assert np.array_equal(cv2.imread(str(tmp_path / "a.png"))[:, :, ::-1], image)


def test_mask_and_depth_round_trip(tmp_path: Path) -> None:
    mask = _random((5, 6))
    images.write_mask(tmp_path / "m.png", mask)
    assert np.array_equal(images.read_mask(tmp_path / "m.png"), mask)
    depth = np.array([[0.5, 100.25], [255.9, 1e6]], dtype=np.float32)
    images.write_depth(tmp_path / "d.png", depth)
    assert np.allclose(images.read_depth(tmp_path / "d.png"), np.minimum(depth, 65535 / 256), atol=1 / 512)


def test_tensor_round_trip() -> None:
    image = _random((4, 5, 3))
    tensor = images.to_tensor(image)
    assert tensor.shape == (3, 4, 5) and tensor.min() >= 0 and tensor.max() <= 1
    assert np.array_equal(images.to_uint8(tensor), image)
    assert images.to_uint8(torch.full((3, 1, 1), 1.7)).max() == 255


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_unreadable_image_names_the_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(images.ImageError, match=r"broken\.png"):
        images.read_image(path)


def test_colour_image_is_no_mask(tmp_path: Path) -> None:
    images.write_image(tmp_path / "a.png", _random((4, 4, 3)))
    with pytest.raises(images.ImageError, match="one 8-bit channel"):
        images.read_mask(tmp_path / "a.png")
    with pytest.raises(images.ImageError, match="one 16-bit channel"):
        images.read_depth(tmp_path / "a.png")


def _files(folder: Path) -> dict[str, Path]:
    """One picture in every form that people have."""
    pixels = _random((6, 8, 3))
    plain = Image.fromarray(pixels)
    turned = plain.getexif()
    turned[0x0112] = 6
    files = {name: folder / name for name in ("plain.png", "plain.jpg", "palette.png", "turned.png", "turned.jpg")}
    for name, path in files.items():
        chosen = plain.quantize(8) if name.startswith("palette") else plain
        chosen.save(path, **({"exif": turned} if name.startswith("turned") else {}))
    for name, mode in (("grey.png", "L"), ("alpha.png", "RGBA"), ("cmyk.jpg", "CMYK"), ("one.png", "1")):
        files[name] = folder / name
        plain.convert(mode).save(files[name])
    wide = _random((6, 8, 3), np.uint16)
    for name, content in (("rgb16.png", wide), ("grey16.png", wide[:, :, 0]), ("rgb16.tif", wide)):
        files[name] = folder / name
        cv2.imwrite(str(files[name]), content)
    return files


CONVERSIONS = {
    "turned": ["rotated by EXIF"],
    "grey.png": ["grey image"],
    "one.png": ["grey image"],
    "alpha": ["image with transparency"],
    "cmyk": ["CMYK image"],
    "rgb16": ["16-bit image"],
    "grey16": ["16-bit image", "grey image"],
}


def test_photos_of_every_kind_are_read_as_opencv_reads_them_and_changes_are_named(tmp_path: Path) -> None:
    for name, path in _files(tmp_path).items():
        photo = photos.read_photo(path, exif="upright")
        expected = cv2.imread(str(path))
        # Rounding of CMYK, and of 16-bit TIFF, differs by one.
        assert np.abs(photo.pixels.astype(int) - expected[:, :, ::-1]).max() <= (
            1 if name[:4] in ("cmyk", "rgb1") else 0
        )
        named = next((texts for start, texts in CONVERSIONS.items() if name.startswith(start)), [])
        assert [text.partition(":")[0] for text in photo.conversions] == named, name
        assert photo.reusable == (name == "plain.png")


def test_turning_goes_by_the_size_of_the_labels(tmp_path: Path) -> None:
    path = _files(tmp_path)["turned.png"]
    assert photos.read_photo(path, (8, 6)).pixels.shape == (6, 8, 3)
    assert photos.read_photo(path, (6, 8)).pixels.shape == (8, 6, 3)
    assert photos.read_photo(path, (99, 99)).pixels.shape == (8, 6, 3)


@pytest.mark.parametrize("name", ["plain.png", "plain.jpg", "rgb16.tif"])
def test_truncated_photos_are_refused(tmp_path: Path, name: str) -> None:
    path = _files(tmp_path)[name]
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(images.ImageError, match=rf"{path.name}: "):
        photos.read_photo(path)


def test_copies_have_the_bytes_with_and_without_the_kernels_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _files(tmp_path)["plain.png"]
    images.copy_image(path, tmp_path / "a.png")

    def refuse(*arguments: object) -> int:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.copy_file_range", refuse)
    images.copy_image(path, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes() == path.read_bytes()


def test_unknown_files_are_refused_after_ultralytics_has_replaced_pillows_open(tmp_path: Path) -> None:
    import ultralytics.utils.patches

    assert Image.open is ultralytics.utils.patches.image_open
    path = tmp_path / "a.png"
    path.write_text("no image")
    with pytest.raises(images.ImageError, match=r"a\.png: not a readable image \(not an image of a known format\)"):
        photos.read_photo(path)
