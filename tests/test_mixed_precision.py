"""Trainings in bfloat16: their gradients against those in float32, and when bfloat16 is used."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.diffusion.unet import build_scheduler, build_unet
from models.mixed_precision import mixed_output, mixed_precision, uses_bfloat16
from models.restorers import build_restorer
from models.tasks.segmentation import segmentation_loss
from models.tasks.smp_networks import build_network
from models.tasks.yolo_library import criterion, parts
from models.tasks.yolo_precision import train_in_bfloat16
from pipeline.train_prior import _noise_loss
from pipeline.training.distributed import TrainingRank

CPU = torch.device("cpu")
Loss = Callable[[str], torch.Tensor]  # of a precision
NAFNET = {"width": 8, "encoder_blocks": [1], "middle_blocks": 1, "decoder_blocks": [1]}


def _scenes() -> torch.Tensor:
    """Smooth images (8, 3, 96, 96)."""
    return F.interpolate(torch.rand(8, 3, 12, 12), 96, mode="bicubic").clamp(0, 1)


def _restorer() -> tuple[nn.Module, Loss]:
    restorer, images = build_restorer("nafnet", NAFNET).train(), torch.rand(2, 3, 32, 32)
    return restorer, lambda precision: (mixed_output(restorer, images, precision) - images.sqrt()).abs().mean()


def _prior() -> tuple[nn.Module, Loss]:
    unet = build_unet({"size": 32, "channels": [16, 32], "blocks": 1, "attention": [16]}).train()
    scheduler, images = build_scheduler({"steps": 1000, "kind": "linear"}), torch.rand(4, 3, 32, 32)

    def loss(precision: str) -> torch.Tensor:
        with mixed_precision(precision, CPU):
            return _noise_loss(unet, scheduler, images, 0, TrainingRank(CPU))

    return unet, loss


def _segmentation() -> tuple[nn.Module, Loss]:
    network = build_network({"architecture": "unet", "encoder": "tu-mobilenetv3_small_050"}, 4, None).train()
    images, masks = _scenes(), torch.randint(0, 4, (8, 96, 96))
    return network, lambda precision: segmentation_loss(mixed_output(network, images, precision), masks)


def _detection() -> tuple[nn.Module, Loss]:
    network = parts("detect").model("yolo11n.yaml", nc=2, verbose=False).train()
    of_predictions = criterion(network)
    boxes = torch.cat([torch.rand(16, 2) * 0.4 + 0.3, torch.full((16, 2), 0.3)], 1)
    labels = {"batch_idx": torch.arange(16.0) // 2, "cls": torch.arange(16.0)[:, None] % 2}
    batch = {**labels, "bboxes": boxes, "img": _scenes()}
    exact = type(network)

    def loss(precision: str) -> torch.Tensor:
        network.__class__ = exact
        if precision == "bf16":
            train_in_bfloat16(network)
        total: torch.Tensor = of_predictions(network(batch["img"]), batch)[0].sum()
        return total

    return network, loss


@pytest.mark.parametrize(
    ("make", "least"), [(_restorer, 0.999), (_prior, 0.999), (_segmentation, 0.95), (_detection, 0.95)]
)
def test_a_gradient_in_bfloat16_points_where_that_in_float32_does(
    make: Callable[[], tuple[nn.Module, Loss]], least: float
) -> None:
    torch.manual_seed(0)
    network, loss = make()
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, 2e-3)
    for _ in range(5):  # batch normalisation on random weights magnifies rounding
        optimizer.zero_grad()
        loss("bf16").backward()
        optimizer.step()
    values, gradients = [], []
    for precision in ("full", "bf16"):
        value = loss(precision)
        parts_of_it = torch.autograd.grad(value, weights, allow_unused=True)
        gradients.append(torch.cat([part.flatten() for part in parts_of_it if part is not None]).double())
        values.append(value.item())
    assert values[1] == pytest.approx(values[0], rel=0.05)
    assert not torch.equal(*gradients)
    assert F.cosine_similarity(*gradients, dim=0) > least  # of another batch: under 0.4
    assert gradients[1].norm() == pytest.approx(gradients[0].norm().item(), rel=0.1)


def test_the_loss_of_a_detector_sees_float32() -> None:
    network: Any = parts("detect").model("yolo11n.yaml", nc=2, verbose=False).train()
    inside: list[torch.dtype] = []
    network.model[0].register_forward_hook(lambda module, inputs, output: inside.append(output.dtype))
    train_in_bfloat16(network)
    kinds: set[torch.dtype] = set()

    def collect(output: Any) -> None:
        if isinstance(output, torch.Tensor):
            kinds.add(output.dtype)
        else:
            for part in output.values() if isinstance(output, dict) else output:
                collect(part)

    collect(network(torch.rand(1, 3, 64, 64)))
    assert inside == [torch.bfloat16]
    assert kinds == {torch.float32}


def test_auto_is_bfloat16_where_the_processor_multiplies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for units in ({"avx512_bf16": True}, {"avx512_bf16": False, "amx_bf16": True}, {"avx2": True}, {}):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda units=units: units)
        has_units = any("bf16" in name and there for name, there in units.items())
        assert [uses_bfloat16(precision, CPU) for precision in ("auto", "bf16", "full")] == [has_units, True, False]
