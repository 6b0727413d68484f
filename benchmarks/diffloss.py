"""Cost of DiffLoss: step time, peak memory and faithfulness of every way to evaluate it, side by side.

    uv run python -m benchmarks.diffloss                  # two threads, 4 images of 128x128, 14.7 M parameters
    uv run python -m benchmarks.diffloss --adm --size 256 --compile       # the ADM-sized U-Net, for a GPU

A step is the loss and its gradient at the restored images, without a restorer. All ways use the same timesteps and
noise. The ways take turns, so that a busy machine slows all of them; times are minimum and median over the rounds.
"""

import argparse
import ctypes
import gc
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from models.losses.feature_bank import FeatureBank
from torch import Tensor

from models.diffusion.adm import build_unet
from models.diffusion.adm_settings import read_settings
from models.diffusion.prior import DiffusionPrior
from models.losses.diffloss import DiffLoss

NAIVE = {"": "naive", "semantic": "semantic: naive", "natural": "natural: naive"}  # by the terms in a way's name
Step = Callable[[], tuple[float, Tensor]]  # value and gradient

ADM_256 = {
    "image_size": 256,
    "num_channels": 256,
    "num_res_blocks": 2,
    "attention_resolutions": "32,16,8",
    "num_head_channels": 64,
    "resblock_updown": True,
    "learn_sigma": True,
}


def main() -> None:
    """Print the table."""
    options = _options()
    torch.set_num_threads(options.threads)
    case = Case(options)
    ways = case.ways()
    results = {name: step() for name, step in ways.items()}  # warm-up, and what is compared below
    memory = {name: case.peak_memory(step) for name, step in ways.items()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, step in ways.items():
            times[name].append(case.seconds(step))
    case.describe()
    _print_table(times, memory, results)


class Case:
    """One machine, one prior, one batch."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.device = torch.device(options.device)
        generator = torch.Generator().manual_seed(0)
        shape = (options.batch, 3, options.size, options.size)
        coarse = torch.rand(options.batch, 3, options.size // 8, options.size // 8, generator=generator)
        clean = F.interpolate(coarse, options.size, mode="bicubic").clamp(0, 1)
        error = torch.randn(shape, generator=generator) * 10 ** (-options.psnr / 20)
        self.clean, self.restored = clean.to(self.device), (clean + error).clamp(0, 1).to(self.device)
        self.unet = _network(options.adm).to(self.device)
        self.prior = self._prior()
        self.folder = tempfile.TemporaryDirectory()
        self.sampler = DiffLoss(self.prior).sampler
        drawn = FeatureBank(1).draw(self.clean, self.clean, self.sampler, torch.Generator().manual_seed(0))
        self.timesteps, self.noise = drawn.timesteps, drawn.noise

    def ways(self) -> dict[str, Step]:
        """Every way to evaluate the loss, by name; the first is the naive one."""
        fast: dict[str, Any] = {"channels_last": True, "bank": FeatureBank(1)}
        disk = FeatureBank(1, Path(self.folder.name))
        checkpointed = self._prior()
        checkpointed.checkpoint()
        ways: dict[str, Step] = {
            "naive": self._naive(trainable=True),
            "frozen": self._naive(trainable=False),
            "no-grad clean (default)": self._loss(),
            "+ checkpointing": self._loss(prior=checkpointed),
            "+ channels_last": self._loss(channels_last=True),
            "+ channels_last, mixed": self._loss(channels_last=True, precision="mixed"),
            "+ channels_last, decoder": self._loss(channels_last=True, precision="decoder"),
            "+ channels_last, autocast": self._loss(channels_last=True, precision="autocast"),
            "+ channels_last, bfloat16": self._loss(channels_last=True, precision="bfloat16"),
            "bank": self._loss(bank=FeatureBank(1)),
            "bank on disk": self._loss(bank=disk),
            "bank, channels_last": self._loss(channels_last=True, bank=FeatureBank(1)),
            "bank, channels_last, mixed": self._loss(precision="mixed", **fast),
            "bank, channels_last, decoder": self._loss(precision="decoder", **fast),
            "bank, channels_last, autocast": self._loss(precision="autocast", **fast),
            "bank, channels_last, bfloat16": self._loss(precision="bfloat16", **fast),
        }
        semantic: dict[str, Any] = {"natural_weight": 0.0}
        ways |= {
            NAIVE["semantic"]: self._naive(trainable=True, natural_weight=0.0),
            "semantic: no-grad clean": self._loss(**semantic),
            "semantic: ch.last, mixed": self._loss(precision="mixed", channels_last=True, **semantic),
            "semantic: bank, ch.last, mixed": self._loss(precision="mixed", **semantic, **fast),
            "semantic: bank, ch.last, autocast": self._loss(precision="autocast", **semantic, **fast),
            "semantic: bank, ch.last, bfloat16": self._loss(precision="bfloat16", **semantic, **fast),
        }
        natural: dict[str, Any] = {"semantic_weight": 0.0}
        ways |= {
            NAIVE["natural"]: self._naive(trainable=True, semantic_weight=0.0),
            "natural: bank, ch.last, mixed": self._loss(precision="mixed", **natural, **fast),
            "natural: bank, ch.last, decoder": self._loss(precision="decoder", **natural, **fast),
        }
        if self.options.compile:
            compiled = self._prior()
            compiled.compile_passes()
            ways |= {
                "compile, bank, ch.last": self._loss(prior=compiled, **fast),
                "compile, bank, ch.last, autocast": self._loss(prior=compiled, precision="autocast", **fast),
            }
        wanted = self.options.ways
        kept = NAIVE.values()
        return {name: step for name, step in ways.items() if not wanted or name in kept or wanted in name}

    def seconds(self, step: Step) -> float:
        """Wall time of one step."""
        self._wait()
        start = time.perf_counter()
        step()
        self._wait()
        return time.perf_counter() - start

    def peak_memory(self, step: Step) -> float:
        """Peak memory of one step above what was held before it, in MiB."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            step()
            return (torch.cuda.max_memory_allocated() - before) / 2**20
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # resets the process's peak, Linux only
        before = _resident("VmRSS")
        step()
        return (_resident("VmHWM") - before) / 1024

    def describe(self) -> None:
        """Say what was measured on what."""
        parameters = sum(parameter.numel() for parameter in self.unet.parameters())
        name = torch.cuda.get_device_name() if self.device.type == "cuda" else _processor()
        print(f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}")
        print(
            f"U-Net of {parameters / 1e6:.1f} M random parameters, {tuple(self.clean.shape)}, restored at "
            f"{self.options.psnr:g} dB PSNR, {self.options.rounds} rounds"
        )

    def _prior(self) -> DiffusionPrior:
        """A frozen copy, so that the naive way's trainable weights stay its own."""
        from diffusers import DDPMScheduler, UNet2DModel

        with torch.device("meta"):
            copy = UNet2DModel.from_config(self.unet.config)
        copy.load_state_dict(self.unet.state_dict(), assign=True)
        return DiffusionPrior(copy, DDPMScheduler())

    def _loss(self, prior: DiffusionPrior | None = None, **settings: Any) -> Step:
        loss = DiffLoss(prior or self.prior, **settings)
        drawn = {} if "bank" in settings else {"timesteps": self.timesteps, "noise": self.noise}

        def step() -> tuple[float, Tensor]:
            leaf = self.restored.clone().requires_grad_()
            total = loss(leaf, self.clean, generator=torch.Generator().manual_seed(0), **drawn).total
            return total.item(), torch.autograd.grad(total, leaf)[0]

        return step

    def _naive(self, trainable: bool, natural_weight: float = 1.0, semantic_weight: float = 1.0) -> Step:
        """Both branches with gradient through the whole U-Net."""

        def step() -> tuple[float, Tensor]:
            self.unet.eval().requires_grad_(trainable)
            leaf = self.restored.clone().requires_grad_()
            seen, wanted = (self._whole(image) for image in (leaf, self.clean.clone().requires_grad_()))
            natural, semantic = ((a - b).square().mean() for a, b in zip(seen, wanted, strict=True))
            total = natural_weight * natural + semantic_weight * semantic
            total.backward()
            self.unet.zero_grad(set_to_none=True)
            return total.item(), leaf.grad if leaf.grad is not None else torch.zeros_like(leaf)

        return step

    def _whole(self, image: Tensor) -> tuple[Tensor, Tensor]:
        middle: list[Tensor] = []
        noisy = self.prior.add_noise(2 * image - 1, self.noise, self.timesteps)
        unet: Any = self.unet
        with unet.mid_block.register_forward_hook(lambda module, inputs, output: middle.append(output)):
            return unet(noisy, self.timesteps).sample[:, :3], middle[0]

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def _network(adm: bool) -> torch.nn.Module:
    from diffusers import UNet2DModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        if adm:
            return build_unet(read_settings(ADM_256))
        unet: Any = UNet2DModel(
            sample_size=128,
            layers_per_block=1,
            block_out_channels=(64, 128, 192, 256),
            attention_head_dim=32,
            down_block_types=("DownBlock2D", "DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D", "UpBlock2D"),
        )
        return unet


def _print_table(
    times: dict[str, list[float]], memory: dict[str, float], results: dict[str, tuple[float, Tensor]]
) -> None:
    base = min(times["naive"])
    print("\n| way | seconds (min) | median | against naive | peak MiB | value off by | gradient cosine |")
    print("|---|---|---|---|---|---|---|")
    for name, own in times.items():
        value, slope = results[name]
        target, wanted = results[NAIVE[name.rpartition(":")[0]]]
        cosine = F.cosine_similarity(slope.flatten().double(), wanted.flatten().double(), dim=0).item()
        print(
            f"| {name} | {min(own):.3f} | {median(own):.3f} | {base / min(own):.1f} | {memory[name]:.0f} | "
            f"{abs(value / target - 1):.1e} | {cosine:.6f} |"
        )


def _resident(field: str) -> int:
    """A line of /proc/self/status, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "CPU")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Cost of DiffLoss", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=int, default=128, help="side of the images")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--psnr", type=float, default=26.0, help="of the restored images, in dB")
    parser.add_argument("--adm", action="store_true", help="the published 256-pixel architecture, 552.8 M parameters")
    parser.add_argument("--compile", action="store_true", help="also through torch.compile (minutes to warm up)")
    parser.add_argument("--ways", default="", help="only ways with this in their name, and naive")
    return parser.parse_args()


if __name__ == "__main__":
    main()
