"""The settings of a guided-diffusion (ADM) U-Net, named like guided-diffusion's flags."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from .networks import PriorError

# ADM's default channel multipliers for each image size, as in the code released with Dhariwal and Nichol 2021.
DEFAULT_MULTIPLIERS: dict[int, tuple[float, ...]] = {
    512: (0.5, 1, 1, 2, 2, 4, 4),
    256: (1, 1, 2, 2, 4, 4),
    128: (1, 1, 2, 3, 4),
    64: (1, 2, 3, 4),
}
SCHEDULES = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
ALIASES = {"model_channels": "num_channels", "num_heads_channels": "num_head_channels"}
# Flags that change training or sampling, but not what the network computes on an image.
WITHOUT_EFFECT = (
    "architecture",
    "dropout",
    "use_checkpoint",
    "use_fp16",
    "use_kl",
    "timestep_respacing",
    "rescale_learned_sigmas",
    "num_heads_upsample",
    "sigma_small",
    "use_new_attention_order",
)
LARGEST = 100_000  # upper limit of every count: larger than in any network, but small enough to allocate


class GuidedError(PriorError):
    """A guided-diffusion setting or checkpoint that cannot be used; the text names the key."""


@dataclass(frozen=True)
class GuidedSettings:
    """The flags that define the network and its schedule, with the defaults of guided-diffusion.

    `attention_downsample_factors` are the down-sampling factors of the levels with attention. They replace the flag
    `attention_resolutions`, sides in pixels ("32,16,8"). Factors of no level have no effect.
    """

    image_size: int = 64
    in_channels: int = 3
    num_channels: int = 128
    num_res_blocks: int = 2
    channel_mult: tuple[int, ...] = (1, 2, 3, 4)
    attention_downsample_factors: tuple[int, ...] = (4, 8)
    num_heads: int = 4
    num_head_channels: int = -1
    learn_sigma: bool = False
    class_cond: bool = False
    num_classes: int = 1000
    use_scale_shift_norm: bool = True
    resblock_updown: bool = False
    use_new_attention_order: bool = False
    noise_schedule: str = "linear"
    diffusion_steps: int = 1000
    predict_xstart: bool = False

    @property
    def out_channels(self) -> int:
        """Channels of the prediction; learned variance doubles them."""
        return self.in_channels * (2 if self.learn_sigma else 1)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(self.num_channels * multiplier for multiplier in self.channel_mult)

    @property
    def attends(self) -> tuple[bool, ...]:
        """For each level, whether it has attention."""
        return tuple(2**level in self.attention_downsample_factors for level in range(len(self.channel_mult)))

    @property
    def head_channels(self) -> int | None:
        """Channels of an attention head, the same at every level; None: every level has `num_heads` heads."""
        return None if self.num_head_channels == -1 else self.num_head_channels

    def heads(self, width: int) -> int:
        """Attention heads of a layer with `width` channels."""
        return self.num_heads if self.num_head_channels == -1 else width // self.num_head_channels

    def _attention_widths(self) -> set[int]:
        level_widths = {width for width, attends in zip(self.widths, self.attends, strict=True) if attends}
        return level_widths | {self.widths[-1]}  # the middle block always has attention

    def check(self) -> None:
        """Raise GuidedError for settings that a stock UNet2DModel cannot express."""
        counts = ("image_size", "in_channels", "num_channels", "num_res_blocks", "num_classes", "diffusion_steps")
        for key in counts:
            if not 1 <= getattr(self, key) <= LARGEST:
                raise GuidedError(f"{key}: expected 1 to {LARGEST}, got {getattr(self, key)}")
        if any(width % 32 or not 1 <= width <= LARGEST for width in self.widths):
            raise GuidedError(f"num_channels x channel_mult = {self.widths}: expected multiples of 32, the group norm")
        if self.channel_mult[0] != 1:
            raise GuidedError(f"channel_mult {self.channel_mult}: the first must be 1 to fit a UNet2DModel")
        widths = sorted(self._attention_widths())
        size = self.num_heads if self.num_head_channels == -1 else self.num_head_channels
        if size < 1 or any(width % size for width in widths):
            raise GuidedError(f"attention widths {widths} cannot be divided by {size} (heads or channels a head)")
        if self.noise_schedule not in SCHEDULES:
            raise GuidedError(f"noise_schedule {self.noise_schedule!r} is unknown; there are {', '.join(SCHEDULES)}")


def read_settings(config: str | Path | Mapping[str, Any]) -> GuidedSettings:
    """The settings in a dict or a JSON file. Keys that do not change the network are ignored.

    Raises:
        GuidedError: the file is not a JSON object, a key is misspelt, a value is wrong, or UNet2DModel cannot express
            the network.
    """
    raw = dict(config) if isinstance(config, Mapping) else _read_json(Path(config))
    raw = {ALIASES.get(key, key): value for key, value in raw.items() if value is not None}
    _refuse_unsupported(raw)
    image_size = _scalar("image_size", raw.get("image_size", GuidedSettings.image_size), int)
    values: dict[str, Any] = {
        "channel_mult": _multipliers(raw.pop("channel_mult", ""), image_size),
        "attention_downsample_factors": _attention_factors(raw, image_size),
    }
    if "out_channels" in raw and "learn_sigma" not in raw:
        raw["learn_sigma"] = raw["out_channels"] != raw.get("in_channels", GuidedSettings.in_channels)
    for field in fields(GuidedSettings):
        if field.name in raw and field.name not in values:
            values[field.name] = _scalar(field.name, raw[field.name], type(field.default))
    settings = GuidedSettings(**values)
    settings.check()
    stated = raw.get("out_channels", settings.out_channels)
    if stated != settings.out_channels:
        raise GuidedError(
            f"out_channels {stated} contradicts learn_sigma={settings.learn_sigma} with "
            f"{settings.in_channels} channels in"
        )
    return settings


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise GuidedError(f"{path}: expected a JSON file of guided-diffusion settings ({error})") from error
    if not isinstance(content, dict):
        raise GuidedError(f"{path}: expected a JSON object of settings, got a {type(content).__name__}")
    return content


def _refuse_unsupported(raw: Mapping[str, Any]) -> None:
    if raw.get("rescale_timesteps") and _scalar("diffusion_steps", raw.get("diffusion_steps", 1000), int) != 1000:
        raise GuidedError("rescale_timesteps with other than 1000 diffusion_steps cannot be expressed by a UNet2DModel")
    if raw.get("conv_resample") is False:
        raise GuidedError("conv_resample=false cannot be expressed by a UNet2DModel")
    if raw.get("dims", 2) != 2:
        raise GuidedError(f"dims={raw['dims']}: expected 2")
    upsampling, by_width = raw.get("num_heads_upsample", -1), raw.get("num_head_channels", -1) != -1
    if not by_width and upsampling not in (-1, raw.get("num_heads", GuidedSettings.num_heads)):
        raise GuidedError(f"num_heads_upsample={upsampling} differs from num_heads: a UNet2DModel has one number")
    known = {field.name for field in fields(GuidedSettings)} | set(WITHOUT_EFFECT)
    known |= {"attention_resolutions", "out_channels", "rescale_timesteps", "conv_resample", "dims"}
    for key in set(raw) - known:
        similar = difflib.get_close_matches(key, known, n=1, cutoff=0.88)
        if similar:
            raise GuidedError(f"unknown setting {key!r}: did you mean {similar[0]!r}?")


def _multipliers(value: Any, image_size: int) -> tuple[int, ...]:
    if value in ("", None):
        if image_size not in DEFAULT_MULTIPLIERS:
            raise GuidedError(f"channel_mult: there is no default for image_size {image_size}; give it")
        value = DEFAULT_MULTIPLIERS[image_size]
    numbers = _numbers("channel_mult", value)
    if not numbers or any(number != int(number) for number in numbers):
        raise GuidedError(f"channel_mult {value!r}: a UNet2DModel with ADM's time embedding needs whole multipliers")
    return tuple(int(number) for number in numbers)


def _attention_factors(raw: dict[str, Any], image_size: int) -> tuple[int, ...]:
    stated = raw.pop("attention_downsample_factors", None)
    resolutions = raw.pop("attention_resolutions", None)
    if resolutions is None and stated is None:
        resolutions = "16,8"  # guided-diffusion's default
    factors = tuple(int(number) for number in _numbers("attention_downsample_factors", stated or ()))
    if resolutions is None:
        return factors
    sides = [int(side) for side in _numbers("attention_resolutions", resolutions)]
    if any(side < 1 for side in sides):
        raise GuidedError(f"attention_resolutions {resolutions!r}: expected sides of at least one pixel")
    derived = tuple(image_size // side for side in sides)
    if stated is not None and set(derived) != set(factors):
        raise GuidedError(f"attention_resolutions {resolutions!r} contradict attention_downsample_factors {stated}")
    return derived


def _numbers(key: str, value: Any) -> list[float]:
    """The numbers in a list, in a single number or in a text with commas."""
    items = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    try:
        numbers = [float(item) for item in items if str(item).strip()]
    except (TypeError, ValueError, OverflowError) as error:
        raise GuidedError(f"{key}: expected numbers, got {value!r}") from error
    if not all(0 <= number <= LARGEST for number in numbers):
        raise GuidedError(f"{key}: expected numbers from 0 to {LARGEST}, got {value!r}")
    return numbers


def _scalar(key: str, value: Any, kind: type) -> Any:
    """A value converted to the type of the default. Booleans may be text or 0 and 1, integers may be text."""
    if kind is bool and str(value).lower() in ("true", "false", "1", "0", "yes", "no"):
        return str(value).lower() in ("true", "1", "yes")
    if kind is int and not isinstance(value, bool) and str(value).removeprefix("-").isdecimal():
        return int(value)
    if kind is str and isinstance(value, str):
        return value
    raise GuidedError(f"{key}: expected {kind.__name__}, got {value!r}")
