"""Processor time of a training step of each network of the default run, in float32 and in bfloat16, side by side.

    python -m benchmarks.precision --rounds 6

One thread. The ways take turns, so that other work on the machine slows all of them. A step is forward and backward
pass, without optimiser and data. The gradient is compared with that of float32, after a few steps of training: batch
normalisation on random weights magnifies rounding. Images are smooth noise.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.stages import processor
from models.diffusion.unet import build_unet
from models.mixed_precision import channels_last, mixed_precision
from models.restorers import build_restorer
from models.tasks.segmentation import segmentation_loss
from models.tasks.smp_networks import build_network
from models.tasks.yolo_library import criterion, parts
from models.tasks.yolo_precision import train_in_bfloat16

CPU = torch.device("cpu")
WAYS = {"float32": ("full", False), "channels_last": ("full", True)}
WAYS |= {"bfloat16": ("bf16", False), "bfloat16, channels_last": ("bf16", True)}
SETTLED = 5  # steps of training before gradients are compared
Step = Callable[[str, bool], Tensor]  # precision, whether channels_last -> loss


def _images(batch: int, height: int, width: int) -> Tensor:
    """Smooth images (batch, 3, height, width) in [0, 1]."""
    return F.interpolate(torch.rand(batch, 3, height // 8, width // 8), (height, width), mode="bicubic").clamp(0, 1)


def _output(network: nn.Module, images: Tensor, precision: str, last: bool) -> Any:
    with mixed_precision(precision, CPU):
        return network(channels_last(images) if last else images)


def restorer() -> tuple[nn.Module, Step]:
    """The default NAFNet on 6 crops of 96x96."""
    blocks = {"encoder_blocks": [1, 1, 1], "middle_blocks": 1, "decoder_blocks": [1, 1, 1]}
    network, images = build_restorer("nafnet", {"width": 16, **blocks}).train(), _images(6, 96, 96)
    return network, lambda *way: (_output(network, images, *way).float() - images.sqrt()).abs().mean()


def prior() -> tuple[nn.Module, Step]:
    """The default U-Net on 12 images of 64x64."""
    network = build_unet({"size": 64, "channels": [32, 64, 96], "blocks": 1, "attention": [16]}).train()
    noise, timesteps = torch.randn(12, 3, 64, 64), torch.randint(0, 1000, (12,))

    def step(precision: str, last: bool) -> Tensor:
        with mixed_precision(precision, CPU):
            predicted = network(channels_last(noise) if last else noise, timesteps).sample
        return F.mse_loss(predicted.float(), noise)

    return network, step


def segmentation() -> tuple[nn.Module, Step]:
    """The default segmentation network on 8 crops of 160x160."""
    network = build_network({"architecture": "unet", "encoder": "tu-mobilenetv3_small_050"}, 6, None).train()
    images, masks = _images(8, 160, 160), torch.randint(0, 6, (8, 160, 160))
    return network, lambda *way: segmentation_loss(_output(network, images, *way).float(), masks)


def detection() -> tuple[nn.Module, Step]:
    """YOLO11n on 16 images of 224x224; in bfloat16 always in channels_last."""
    network = parts("detect").model("yolo11n.yaml", nc=4, verbose=False).train()
    exact, loss_of = type(network), criterion(network)
    boxes = torch.cat([torch.rand(48, 2) * 0.6 + 0.2, torch.rand(48, 2) * 0.2 + 0.1], 1)
    labels = {"batch_idx": torch.arange(48.0) // 3, "cls": torch.arange(48.0)[:, None] % 4, "bboxes": boxes}
    batch = {**labels, "img": _images(16, 224, 224)}

    def step(precision: str, last: bool) -> Tensor:
        network.__class__ = exact
        if precision == "bf16":
            train_in_bfloat16(network)
        total: Tensor = loss_of(network(channels_last(batch["img"]) if last else batch["img"]), batch)[0].sum()
        return total

    return network, step


def rows(build: Callable[[], tuple[nn.Module, Step]], rounds: int) -> Iterator[str]:
    """A row for each way: processor milliseconds of a step, times as fast as float32, cosine with its gradient."""
    network, step = build()
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, 1e-3)
    for _ in range(SETTLED):
        optimizer.zero_grad()
        step("full", True).backward()
        optimizer.step()
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    gradients: dict[str, Tensor] = {}
    for _ in range(rounds + 1):  # the first round warms up
        for name, way in WAYS.items():
            started = time.process_time()
            gradient = torch.autograd.grad(step(*way), weights, allow_unused=True)
            seconds[name].append(time.process_time() - started)
            gradients[name] = torch.cat([part.flatten() for part in gradient if part is not None]).double()
    fastest = {name: min(times[1:]) for name, times in seconds.items()}
    for name in WAYS:
        cosine = F.cosine_similarity(gradients[name], gradients["float32"], dim=0)
        yield (
            f"| {build.__name__} | {name} | {1000 * fastest[name]:.0f} | {fastest['float32'] / fastest[name]:.2f} "
            f"| {cosine:.4f} |"
        )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Training steps in float32 and bfloat16.")
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{processor()}\n\n| network | way | ms | times as fast | gradient cosine |\n|---|---|---|---|---|")
    for build in (restorer, prior, segmentation, detection):
        for row in rows(build, options.rounds):
            print(row, flush=True)


if __name__ == "__main__":
    main()
