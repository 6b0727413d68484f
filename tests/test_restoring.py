"""Restoring splits: files, batches, precision, and what survives a kill."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data import images
from data.dataset import Dataset, Split
from models import mixed_precision
from models.restorers import build_restorer
from models.restorers.contract import Restorer
from pipeline.running import restoring
from pipeline.running.restoring import UNFINISHED, restore_images, restore_split, to_batch
from pipeline.settings.training import Restore

WHOLE = Restore(tile=None, overlap=0)


@pytest.fixture
def restorer() -> Restorer:
    torch.manual_seed(0)
    built = build_restorer("nafnet", {"width": 8, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]})
    for weight in built.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return built.eval().to(memory_format=torch.channels_last)


def _images(*sizes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


@pytest.mark.parametrize("tile", [None, 32])
def test_images_of_any_sizes_in_their_order(restorer: Restorer, tile: int | None) -> None:
    degraded = _images((48, 64), (33, 47), (48, 64), (64, 48))
    settings = Restore(tile=tile, overlap=8)
    for image, restored in zip(degraded, restore_images(restorer, degraded, settings), strict=True):
        (alone,) = restore_images(restorer, [image], settings)
        assert np.array_equal(restored.image, alone.image) and restored.seconds > 0
        assert restored.image.shape == image.shape and (restored.image != image).any()


def test_a_batch_has_the_bytes_of_its_images_alone(restorer: Restorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are for GPUs. Here their code runs on the CPU."""
    degraded = _images((48, 64), (33, 47), (48, 64), (48, 64))
    alone = [restored.image for restored in restore_images(restorer, degraded, WHOLE)]
    sizes: list[int] = []
    monkeypatch.setattr(restoring, "batch_size", lambda device, size: 2)
    monkeypatch.setattr(restoring, "to_batch", lambda *args: sizes.append(len(args[1])) or to_batch(*args))
    together = [restored.image for restored in restore_images(restorer, degraded, WHOLE)]
    assert sizes == [2, 1, 1]
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


def test_a_gpu_takes_as_many_pixels_at_once_as_one_large_image_has() -> None:
    gpu = torch.device("cuda")
    assert restoring.batch_size(gpu, (160, 224)) == 58 and restoring.batch_size(gpu, (4000, 6000)) == 1
    assert restoring.batch_size(torch.device("cpu"), (160, 224)) == 1


def test_bfloat16_is_close_to_float32(restorer: Restorer) -> None:
    degraded = _images((48, 64))
    full, rounded = (
        restore_images(restorer, degraded, Restore(tile=None, overlap=0, precision=precision))[0].image.astype(int)
        for precision in ("full", "bf16")
    )
    assert (full != rounded).any() and np.abs(full - rounded).mean() < 1.5


@pytest.mark.parametrize("has_units", [False, True])
def test_auto_is_bfloat16_on_processors_that_multiply_it_only(
    has_units: bool, restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mixed_precision, "has_bfloat16_units", lambda device: has_units)
    degraded = _images((48, 64))
    auto, full, rounded = (
        restore_images(restorer, degraded, Restore(tile=None, overlap=0, precision=precision))[0].image
        for precision in ("auto", "full", "bf16")
    )
    assert np.array_equal(auto, rounded if has_units else full) and not np.array_equal(full, rounded)


def test_a_killed_run_continues(restorer: Restorer, make_dataset: Callable[..., Dataset], tmp_path: Path) -> None:
    split, out = make_dataset(test=20).split("test"), tmp_path / "restored"
    killed = _KilledAt(split.folder, split.ids, last=split.ids[17])
    with pytest.raises(KeyboardInterrupt):
        restore_split(lambda: restorer, killed, WHOLE, out, "")
    finished = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert 0 < len(finished) <= 16
    seconds = restore_split(lambda: restorer, split, WHOLE, out, "")
    assert len(seconds) == 20 - len(finished)
    assert finished.items() <= {path.name: path.stat().st_mtime_ns for path in out.iterdir()}.items()
    assert {path.stem for path in out.iterdir()} == set(split.ids) and not list(tmp_path.glob(f"{UNFINISHED}*"))
    for name in split.ids:
        (alone,) = restore_images(restorer, [split.image(name)], WHOLE)
        assert np.array_equal(images.read_image(out / f"{name}.png"), alone.image)


@dataclass(frozen=True)
class _KilledAt(Split):
    """A split whose reading is interrupted at one image."""

    last: str = ""

    def image(self, image_id: str) -> Any:
        if image_id == self.last:
            raise KeyboardInterrupt
        return super().image(image_id)
