"""IAT (Cui et al., "You only need 90K parameters to adapt light", BMVC 2022), as its LOL weights were published.

`checkpoint` reads these weights. A local branch gives a factor M and an offset A for every pixel x; a global branch, a
transformer with ten queries, gives a colour matrix W and an exponent g for the image: the result is (W (M x + A))^g.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, GLOBAL_WIDTH, HEADS, QUERIES = 16, 64, 4, 10
DARKEST = 1e-8  # smallest base of the power, whose gradient is infinite at 0


class Iat(nn.Module):
    """Both branches. The names in all classes here are those of the published weights."""

    def __init__(self) -> None:
        super().__init__()
        ends = nn.Conv2d(WIDTH, 3, 3, padding=1), nn.Conv2d(WIDTH, 3, 3, padding=1)
        local = {"conv1": nn.Conv2d(3, WIDTH, 3, padding=1), "mul_end": nn.Sequential(ends[0], nn.ReLU())}
        local |= {"add_end": nn.Sequential(ends[1], nn.Tanh())}
        local |= {name: nn.Sequential(_Block(), _Block(), _Block()) for name in ("mul_blocks", "add_blocks")}
        self.local_net, self.global_net = nn.ModuleDict(local), _Global()

    def forward(self, images: Tensor) -> Tensor:
        """The brightened images (N, 3, H, W) of dark ones in [0, 1]."""
        local = self.local_net
        maps = F.leaky_relu(local["conv1"](images), 0.2)
        factor, offset = (local[f"{name}_end"](local[f"{name}_blocks"](maps) + maps) for name in ("mul", "add"))
        exponents, colors = self.global_net(images)
        mixed = torch.einsum("nij,njhw->nihw", colors, images * factor + offset)
        restored: Tensor = mixed.clamp(DARKEST, 1) ** exponents.view(-1, 1, 1, 1)
        return restored


class _Block(nn.Module):
    """Depth-wise convolutions in place of attention, then a perceptron for each pixel of (N, WIDTH, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH)
        self.norm1, self.norm2 = _ColorNorm(), _ColorNorm()
        self.conv1, self.conv2 = nn.Conv2d(WIDTH, WIDTH, 1), nn.Conv2d(WIDTH, WIDTH, 1)
        self.attn = nn.Conv2d(WIDTH, WIDTH, 5, padding=2, groups=WIDTH)
        self.mlp = _Perceptron(nn.Conv2d(WIDTH, 4 * WIDTH, 1), nn.Conv2d(4 * WIDTH, WIDTH, 1))
        self.gamma_1, self.gamma_2 = (nn.Parameter(torch.full((1, WIDTH, 1, 1), 1e-4)) for _ in range(2))

    def forward(self, maps: Tensor) -> Tensor:
        maps = maps + self.pos_embed(maps)
        maps = maps + self.gamma_1 * self.conv2(self.attn(self.conv1(self.norm1(maps))))
        return maps + self.gamma_2 * self.mlp(self.norm2(maps))


class _ColorNorm(nn.Module):
    """A learned mixture of the channels, then a factor and an offset for each; no statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.color = nn.Parameter(torch.eye(WIDTH))
        self.alpha, self.beta = nn.Parameter(torch.ones(1, 1, WIDTH)), nn.Parameter(torch.zeros(1, 1, WIDTH))

    def forward(self, maps: Tensor) -> Tensor:
        mixed = torch.einsum("ij,njhw->nihw", self.color, maps)
        return mixed * self.alpha.view(1, -1, 1, 1) + self.beta.view(1, -1, 1, 1)


class _Perceptron(nn.Module):
    def __init__(self, fc1: nn.Module, fc2: nn.Module) -> None:
        super().__init__()
        self.fc1, self.fc2 = fc1, fc2

    def forward(self, values: Tensor) -> Tensor:
        changed: Tensor = self.fc2(F.gelu(self.fc1(values)))
        return changed


class _Global(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        half, width = GLOBAL_WIDTH // 2, GLOBAL_WIDTH
        first = nn.Conv2d(3, half, 3, stride=2, padding=1), nn.BatchNorm2d(half), nn.GELU()
        second = nn.Conv2d(half, width, 3, stride=2, padding=1), nn.BatchNorm2d(width)
        self.conv_large = nn.ModuleDict({"proj": nn.Sequential(*first, *second)})
        self.generator = nn.ModuleDict(
            {
                "pos_embed": nn.Conv2d(width, width, 3, padding=1, groups=width),
                "norm1": nn.LayerNorm(width),
                "attn": _Attention(),
                "norm2": nn.LayerNorm(width),
                "mlp": _Perceptron(nn.Linear(width, 4 * width), nn.Linear(4 * width, width)),
            }
        )
        self.gamma_linear, self.color_linear = nn.Linear(width, 1), nn.Linear(width, 1)
        self.gamma_base, self.color_base = nn.Parameter(torch.ones(1)), nn.Parameter(torch.eye(3))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The exponents (N, 1) and the colour matrices (N, 3, 3)."""
        maps, layers = self.conv_large["proj"](images), self.generator
        places = (maps + layers["pos_embed"](maps)).flatten(2).transpose(1, 2)
        answers = layers["attn"](layers["norm1"](places))  # (N, QUERIES, GLOBAL_WIDTH)
        answers = answers + layers["mlp"](layers["norm2"](answers))
        exponents = self.gamma_linear(answers[:, 0]) + self.gamma_base
        return exponents, self.color_linear(answers[:, 1:]).view(-1, 3, 3) + self.color_base


class _Attention(nn.Module):
    """From places (N, P, GLOBAL_WIDTH) to the answers to learned queries (N, QUERIES, GLOBAL_WIDTH)."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Parameter(torch.ones(1, QUERIES, GLOBAL_WIDTH))
        self.k, self.v = (nn.Linear(GLOBAL_WIDTH, GLOBAL_WIDTH, bias=False) for _ in range(2))
        self.proj = nn.Linear(GLOBAL_WIDTH, GLOBAL_WIDTH)

    def forward(self, places: Tensor) -> Tensor:
        rows = self.q.expand(len(places), -1, -1), self.k(places), self.v(places)
        heads = [row.unflatten(-1, (HEADS, -1)).transpose(1, 2) for row in rows]
        answers: Tensor = self.proj(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))
        return answers
