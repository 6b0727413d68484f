"""The normalisation of images that a network was trained with, and published ImageNet weights from the local cache."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from . import TaskError

IMAGENET = "imagenet"  # value of the setting `weights`
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Normalisation(NamedTuple):
    """How a network wants its images.

    Attributes:
        mean: of each channel that the network takes, for images in [0, 1].
        std: by which the shifted channels are divided.
        channel_order: of the channels that the network takes: "rgb" or "bgr".
    """

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    channel_order: str = "rgb"

    @classmethod
    def read(cls, description: Any) -> "Normalisation":
        """From the JSON value that `_asdict` gives; None stands for ImageNet's."""
        return cls() if description is None else cls(**description)

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        """RGB images (N, 3, H, W) in [0, 1], shifted and scaled."""
        images = images.flip(1) if self.channel_order == "bgr" else images
        mean = images.new_tensor(self.mean).view(1, -1, 1, 1)
        std = images.new_tensor(self.std).view(1, -1, 1, 1)
        return (images - mean) / std


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Images (N, 3, H, W) in [0, 1], shifted and scaled so that ImageNet has zero mean and unit variance."""
    return Normalisation().apply(images)


def pretrained_normalisation(model: str) -> Normalisation:
    """The normalisation of a model's ImageNet weights, as timm records it; ImageNet's own if timm does not know it.

    Args:
        model: timm's name, or an encoder of segmentation-models-pytorch, such as "tu-resnet18".
    """
    import timm

    known = timm.models.get_pretrained_cfg(model.removeprefix("tu-").removeprefix("timm-"), allow_unregistered=True)
    return Normalisation(tuple(known.mean), tuple(known.std)) if known is not None else Normalisation()


@contextmanager
def from_cache_only(key: str, model: str) -> Iterator[None]:
    """A context in which libraries read published weights from the local cache and download nothing.

    Args:
        key: the setting's key, for the message.
        model: the encoder or network whose weights are read.

    Raises:
        TaskError: the cache does not hold them; the text says how to put them there.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    except OSError as error:  # the hub raises it for a file that is not in the cache
        reason = " ".join(str(error).split())
        raise TaskError(
            f"{key}: {IMAGENET}: the weights of {model!r} are not in {constants.HF_HUB_CACHE}, and nothing is "
            "downloaded. Create that model with its pretrained weights on a machine with internet access and copy that "
            f"folder, or set weights: null ({reason[:160]})"
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = before
