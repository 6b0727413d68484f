"""Cost of DiffLoss: step time, peak memory and exactness of every way to evaluate it, side by side.

    uv run python -m benchmarks.diffloss                  # two threads, 4 images of 128x128, 14.7 M parameters
    uv run python -m benchmarks.diffloss --adm --size 256 --compile       # the ADM-sized U-Net, for a GPU

A step is the loss and its gradient at the restored images, without a restorer. All ways use the same noise and the same
timesteps, which are spread evenly. The ways take turns, so that other work on the machine slows all of them. Times are
minimum and median over the rounds.
"""

import argparse
import ctypes
import gc
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.diffusion.adm import build_unet
from models.diffusion.adm_settings import read_settings
from models.diffusion.prior import DiffusionPrior
from models.losses.diffusion_terms import DiffLossWithOptions, Settings
from pipeline.running.progress import progress

# The terms that a way evaluates, as the beginning of its name, and their weights (natural, semantic).
TERMS = {"": (1.0, 1.0), "semantic: ": (0.0, 1.0), "natural: ": (1.0, 0.0)}
OPTIONS: dict[str, dict[str, Any]] = {
    "no-grad clean (default)": {},
    "+ checkpointing": {"checkpointing": True},
    "+ channels_last": {"channels_last": True},
    "+ channels_last, mixed": {"channels_last": True, "precision": "mixed"},
    "+ channels_last, decoder": {"channels_last": True, "precision": "decoder"},
    "+ channels_last, autocast": {"channels_last": True, "precision": "autocast"},
    "+ channels_last, bfloat16": {"channels_last": True, "precision": "bfloat16"},
}
COMPILED: dict[str, dict[str, Any]] = {
    "compile, channels_last": {"compile": True, "channels_last": True},
    "compile, channels_last, autocast": {"compile": True, "channels_last": True, "precision": "autocast"},
}
WITHOUT_EFFECT = {"semantic: + channels_last, decoder"}  # the semantic term does not run the decoder

Step = Callable[[], tuple[float, Tensor]]  # evaluates the loss; returns its value and gradient (N,3,H,W)

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
    turns = options.rounds * list(ways)
    results: dict[str, tuple[float, Tensor]] = {}
    memory: dict[str, float] = {}
    times: dict[str, list[float]] = {name: [] for name in ways}
    with progress(2 * len(ways) + len(turns), "diffloss", "step") as bar:
        for name, step in ways.items():
            results[name] = step()  # warm-up, and what is compared below
            memory[name] = case.peak_memory(step)
            bar.update(2)
        for name in turns:
            times[name].append(case.seconds(ways[name]))
            bar.update()
    case.describe()
    _print_table(times, memory, results)


class Case:
    """A machine, a prior and a batch of images."""

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
        self.timesteps = (1000 * (torch.arange(options.batch) + 0.5) / options.batch).long().to(self.device)
        self.noise = torch.randn(shape, generator=generator).to(self.device)

    def ways(self) -> dict[str, Step]:
        """Every way to evaluate the loss, by name; the naive one comes first for each choice of terms."""
        options = OPTIONS | (COMPILED if self.options.compile else {})
        ways: dict[str, Step] = {}
        for terms, weights in TERMS.items():
            chosen = {
                f"{terms}{name}": settings
                for name, settings in options.items()
                if self.options.ways in f"{terms}{name}" and f"{terms}{name}" not in WITHOUT_EFFECT
            }
            if chosen:
                ways[f"{terms}naive"] = self._naive(True, *weights)
                ways[f"{terms}frozen"] = self._naive(False, *weights)
                ways |= {name: self._loss(Settings(**settings), *weights) for name, settings in chosen.items()}
        return ways

    def seconds(self, step: Step) -> float:
        """Wall time of a step."""
        self._wait()
        start = time.perf_counter()
        step()
        self._wait()
        return time.perf_counter() - start

    def peak_memory(self, step: Step) -> float:
        """Peak memory of a step minus the memory before it, in MiB."""
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
        """Print the machine and the sizes."""
        parameters = sum(parameter.numel() for parameter in self.unet.parameters())
        name = torch.cuda.get_device_name() if self.device.type == "cuda" else _processor()
        print(f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}")
        print(
            f"U-Net of {parameters / 1e6:.1f} M random parameters, {tuple(self.clean.shape)}, restored at "
            f"{self.options.psnr:g} dB PSNR, {self.options.rounds} rounds"
        )

    def _prior(self) -> DiffusionPrior:
        """A frozen copy that shares the values of the weights, which the naive way trains."""
        from diffusers import DDPMScheduler, UNet2DModel

        with torch.device("meta"):
            copy = UNet2DModel.from_config(self.unet.config)
        copy.load_state_dict(self.unet.state_dict(), assign=True)
        return DiffusionPrior(copy, DDPMScheduler())

    def _loss(self, settings: Settings, natural_weight: float, semantic_weight: float) -> Step:
        """A step with the loss of this project."""
        prior = self._prior() if settings.checkpointing or settings.compile else self.prior
        if settings.checkpointing:
            prior.checkpoint()
        if settings.compile:
            prior.compile_passes()
        loss = DiffLossWithOptions(prior, settings, natural_weight, semantic_weight)

        def step() -> tuple[float, Tensor]:
            leaf = self.restored.clone().requires_grad_()
            total = loss(leaf, self.clean, self.timesteps, self.noise).total
            return total.item(), torch.autograd.grad(total, leaf)[0]

        return step

    def _naive(self, trainable: bool, natural_weight: float, semantic_weight: float) -> Step:
        """A step with gradient through the whole U-Net for both images, and for the weights if they are trainable."""

        def step() -> tuple[float, Tensor]:
            self.unet.eval().requires_grad_(trainable)
            leaf = self.restored.clone().requires_grad_()
            of_restored, of_clean = (self._features(image) for image in (leaf, self.clean.clone().requires_grad_()))
            natural, semantic = ((a - b).square().mean() for a, b in zip(of_restored, of_clean, strict=True))
            total = natural_weight * natural + semantic_weight * semantic
            total.backward()
            self.unet.zero_grad(set_to_none=True)
            assert leaf.grad is not None
            return total.item(), leaf.grad

        return step

    def _features(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted noise and h-space of images (N,3,H,W) in [0,1]."""
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
    print("\n| way | seconds (min) | median | against naive | peak MiB | value off by | gradient cosine |")
    print("|---|---|---|---|---|---|---|")
    for name, seconds in times.items():
        terms = next(terms for terms in reversed(TERMS) if name.startswith(terms))
        value, gradient = results[name]
        exact_value, exact_gradient = results[f"{terms}naive"]
        cosine = F.cosine_similarity(gradient.flatten().double(), exact_gradient.flatten().double(), dim=0).item()
        print(
            f"| {name} | {min(seconds):.3f} | {median(seconds):.3f} | "
            f"{min(times[f'{terms}naive']) / min(seconds):.1f} | {memory[name]:.0f} | "
            f"{abs(value / exact_value - 1):.1e} | {cosine:.6f} |"
        )


def _resident(field: str) -> int:
    """A field of /proc/self/status, in KiB."""
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
    parser.add_argument("--ways", default="", help="only ways with this text in their name")
    return parser.parse_args()


if __name__ == "__main__":
    main()
