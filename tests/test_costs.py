"""Operations against counts by hand, memory against tensors of a known size."""

from collections.abc import Callable

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from data.dataset import Dataset
from models.restorers import build_restorer
from pipeline.restore import measure_pass
from pipeline.running.costs import gflops, peak_memory_mib
from pipeline.settings.training import Restore

CPU = torch.device("cpu")


def test_operations_of_a_convolution_and_a_product() -> None:
    image = torch.zeros(1, 3, 20, 30)
    convolution = torch.nn.Conv2d(3, 8, 3, padding=1)
    assert gflops(lambda: convolution(image)) == pytest.approx(2 * 20 * 30 * 8 * 3 * 9 / 1e9)
    assert gflops(lambda: torch.zeros(5, 7) @ torch.zeros(7, 11)) == pytest.approx(2 * 5 * 7 * 11 / 1e9)


@pytest.mark.parametrize("name", ["nafnet", "restormer"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_operations_are_those_of_torchs_own_counter(name: str, mode: type) -> None:
    settings = {
        "nafnet": {"width": 8, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]},
        "restormer": {"width": 8, "blocks": [1, 1], "heads": [1, 2], "refinement": 1, "expansion": 2.0},
    }
    restorer, image = build_restorer(name, settings[name]), torch.zeros(2, 3, 32, 32)
    head = torch.nn.Linear(32, 5)

    def run() -> None:
        with mode():
            head(restorer(image))

    with FlopCounterMode(display=False) as counter:
        run()
    assert gflops(run) == counter.get_total_flops() / 1e9 > 0


def test_memory_is_that_of_the_largest_moment() -> None:
    def run() -> None:
        for mib in (16, 96, 48):
            torch.ones(mib * 2**18)

    held = torch.ones(64 * 2**18)
    found = peak_memory_mib(run, CPU)
    if found is None:
        pytest.skip("no reset of the peak of resident memory here")
    # What was freed before the largest moment may still count as resident.
    assert 96 - 8 <= found <= 96 + 16 + 8
    assert held.sum() == 64 * 2**18
    assert peak_memory_mib(lambda: None, CPU) == pytest.approx(0, abs=4)


@pytest.mark.parametrize("size", [(48, 64), (96, 64)])
def test_a_restorers_pass_is_measured_at_the_size_of_the_test_images(
    make_dataset: Callable[..., Dataset], size: tuple[int, int]
) -> None:
    restorer = build_restorer("unet", {"channels": [4, 8, 8, 8], "blocks": 1}).eval()
    found = measure_pass(restorer, make_dataset(size=size).split("test"), Restore(tile=None, overlap=8))
    assert found["megapixels"] == pytest.approx(size[0] * size[1] / 1e6)
    assert found["gflops"] == pytest.approx(_by_hooks(restorer, size), rel=1e-3)
    tiled = measure_pass(restorer, make_dataset("tiled", size=size).split("test"), Restore(tile=32, overlap=8))
    assert tiled["gflops"] > found["gflops"]  # tiles overlap


def _by_hooks(restorer: torch.nn.Module, size: tuple[int, int]) -> float:
    """Twice the multiplications of every convolution, from the shapes that hooks see."""
    total = 0

    def count(layer: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        pixels = inputs[0] if isinstance(layer, torch.nn.ConvTranspose2d) else output
        total += 2 * layer.weight.numel() * pixels.shape[-2] * pixels.shape[-1]

    kinds = (torch.nn.Conv2d, torch.nn.ConvTranspose2d)
    hooks = [layer.register_forward_hook(count) for layer in restorer.modules() if isinstance(layer, kinds)]
    with torch.no_grad():
        restorer(torch.zeros(1, 3, *size))
    for hook in hooks:
        hook.remove()
    return total / 1e9
