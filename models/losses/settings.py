"""The settings of every loss: plain types and defaults, readable without torch. docs/diffloss.md explains each."""

from dataclasses import dataclass
from typing import Literal


class LossError(ValueError):
    """A setting or an input that a loss cannot take; the text names it."""


@dataclass(frozen=True)
class PixelSettings:
    """The pixel term, part of every objective."""

    kind: Literal["l1", "l2", "charbonnier"] = "l1"
    weight: float = 1.0


@dataclass(frozen=True)
class TermSettings:
    """How a term is added to the pixel loss.

    weighting "ratio": `strength` is the norm of the term's gradient at the restored image, against the pixel loss's.
    weighting "raw": the term is multiplied by its raw weight.
    """

    weighting: Literal["ratio", "raw"] = "ratio"
    strength: float = 0.5
    from_step: int = 0  # leave the term out before this step: its cost falls on the end of the training alone
    every: int = 1  # evaluate the term at each k-th step only, and weigh it k times
    calibrate_every: int = 20  # steps between two measurements of the gradient norms

    def __post_init__(self) -> None:
        if min(self.every, self.calibrate_every) < 1 or min(self.strength, self.from_step) < 0:
            raise LossError("expected every and calibrate_every >= 1, strength and from_step >= 0")


@dataclass(frozen=True)
class DiffusionSettings(TermSettings):
    """The terms `natural`, `semantic` and `diffloss` (both)."""

    natural_weight: float = 1e-3  # raw, on [-1,1] images, as the method's authors released them
    semantic_weight: float = 1e-6
    timesteps: tuple[int, int] = (0, 1000)
    timestep_sampling: Literal["uniform", "clean", "noisy"] = "uniform"
    layers: tuple[str, ...] = ("middle",)  # of the U-Net, where the semantic term compares
    distance: Literal["mse", "channel", "cosine"] = "mse"  # how it compares there
    draws: int = 1  # (t, noise) pairs for each image and step
    view: Literal["own", "resize", "multi-scale"] = "own"
    view_sizes: tuple[int, ...] = (64,)
    bank: Literal["off", "memory", "disk"] = "off"
    bank_draws: int = 4  # fixed (t, noise) pairs for each clean view
    precision: Literal["float32", "mixed", "decoder", "bfloat16", "autocast"] = "float32"
    channels_last: bool = False
    compile: bool = False
    checkpointing: bool = False  # less memory, more time


@dataclass(frozen=True)
class LpipsSettings(TermSettings):
    """The term `lpips`."""

    raw_weight: float = 0.1
    backbone: Literal["alex", "vgg", "squeeze"] = "alex"


@dataclass(frozen=True)
class TaskSettings(TermSettings):
    """The term `task`."""

    network: str = "detection"  # the task whose trained network gives the features
    raw_weight: float = 0.1
