"""ImageNet's normalisation, and published ImageNet weights from the local cache."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from . import TaskError

IMAGENET = "imagenet"  # value of the setting `weights`
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Images (N, 3, H, W) in [0, 1], shifted and scaled so that ImageNet has zero mean and unit variance."""
    mean = images.new_tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    std = images.new_tensor(IMAGENET_STD).view(1, 3, 1, 1)
    return (images - mean) / std


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
