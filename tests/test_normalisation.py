"""Group normalisation's own backward pass against torch's."""

import pytest
import torch
import torch.nn.functional as F

from models.diffusion.precision import GroupNorm


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 8e-3)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("channels", "groups"), [(12, 4), (6, 1), (5, 5)])
def test_gradient_is_torchs(
    channels: int, groups: int, layout: torch.memory_format, dtype: torch.dtype, tolerance: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    image, upstream = (torch.randn(3, channels, 8, 6, generator=generator) for _ in range(2))
    image = 2 * image + torch.arange(3)[:, None, None, None]  # neither centred nor alike
    weight, bias = torch.rand(channels, generator=generator) + 0.5, torch.randn(channels, generator=generator)
    exact = image.to(dtype).double().requires_grad_()
    wanted = F.group_norm(exact, groups, weight.double(), bias.double(), 1e-5)
    leaf = image.to(dtype).contiguous(memory_format=layout).requires_grad_()
    found = GroupNorm.apply(leaf, groups, weight, bias, 1e-5)
    wanted.backward(upstream.to(dtype).double())
    found.backward(upstream.to(dtype).contiguous(memory_format=layout))
    for one, other in ((found, wanted), (leaf.grad, exact.grad)):
        assert ((one.double() - other).norm() / other.norm()).item() < tolerance
