"""ImageNet's normalisation and published weights, as segmentation-models-pytorch and timm use both."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from models.tasks import TaskError

NAME = "imagenet"  # of the setting `weights`
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def normalise(images: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W) in [0, 1] to zero mean and unit variance over ImageNet."""
    mean = images.new_tensor(MEAN).view(1, 3, 1, 1)
    std = images.new_tensor(STD).view(1, 3, 1, 1)
    return (images - mean) / std


@contextmanager
def from_cache_only(key: str, model: str) -> Iterator[None]:
    """Let the libraries look for published weights in the local cache and nowhere else.

    Args:
        key: of the setting, for the message.
        model: the encoder or network whose weights are wanted.

    Raises:
        TaskError: they are not in the cache; the text says how to get them there.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    except OSError as error:  # what the hub raises for a file that is not in the cache
        words = " ".join(str(error).split())
        raise TaskError(
            f"{key}: {NAME}: the weights of {model!r} are not in {constants.HF_HUB_CACHE}, and nothing is downloaded: "
            "create that model once with its pretrained weights where there is a network, and copy that folder; "
            f"or set weights: null ({words[:160]})"
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = before
