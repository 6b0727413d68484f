"""Networks of segmentation-models-pytorch, or a semantic YOLO, built from a description and given weights."""

from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from ..state_dicts import WeightsError, match_names, read_state_dict
from . import TaskError
from .imagenet import IMAGENET, from_cache_only, pretrained_normalisation
from .smp_files import KEY, read_description, read_state

LISTED = 3  # missing weights in an error


class TwoClasses(torch.nn.Module):
    """A network with one output, the logit of the second of two classes, as a network with an output for each."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    @property
    def encoder(self) -> Any:
        """The network's encoder."""
        return self.network.encoder

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, 2, H, W): their softmax is the sigmoid of the output."""
        logits: torch.Tensor = self.network(images)
        return torch.cat([torch.zeros_like(logits), logits], dim=1)


def start_network(
    description: dict[str, Any], weights: str | None, classes: int, encoder_weights: str | None = None
) -> tuple[torch.nn.Module, dict[str, Any]]:
    """The network that training starts from, on the CPU, and its description.

    Args:
        description: architecture and encoder; those of a folder of weights replace them.
        weights: `imagenet`, or a file or folder whose weights are used if their shapes fit; None: random weights.
        classes: number of classes.
        encoder_weights: a file with the encoder's weights; None: there is none.

    Raises:
        TaskError: the weights do not fit.
    """
    if weights in (None, IMAGENET):
        network = build_network(description, classes, weights)
        if encoder_weights is not None:
            _load_encoder(network, Path(encoder_weights), str(description["encoder"]))
        if encoder_weights is None and weights is None:
            return network, description
        normalisation = pretrained_normalisation(str(description["encoder"]))
        return network, {"input": normalisation._asdict(), **description}
    path = Path(weights)
    read, _ = read_description(path, description)
    description = {key: value for key, value in read.items() if key != "outputs"}
    network = build_network(description, classes, None)
    state = network.state_dict()
    known = match_names(read_state(path), state)
    fitting = {name: weight for name, weight in known.items() if weight.shape == state[name].shape}
    if not fitting:
        raise TaskError(f"{KEY}.weights: {path}: none of the weights fit {_label(description)}. Correct {KEY}")
    network.load_state_dict(state | fitting)
    return network, description


def _load_encoder(network: torch.nn.Module, path: Path, name: str) -> None:
    """Give the encoder the weights in a file, with the names of timm, of torchvision or of the encoder itself.

    Raises:
        TaskError: the file cannot be read, or lacks weights.
    """
    key = f"{KEY}.encoder_weights"
    try:
        state = read_state_dict(path)
    except WeightsError as error:
        raise TaskError(f"{key}: {error}") from error
    encoder: Any = network.encoder
    encoder = getattr(encoder, "model", encoder)  # a network of timm
    wanted = encoder.state_dict()
    flat = {entry.replace(".", "_"): value for entry, value in state.items()}  # timm flattens names of stages
    renamed = {entry: flat[entry.replace(".", "_")] for entry in wanted if entry.replace(".", "_") in flat}
    weights = max(match_names(state, wanted), renamed, key=len)
    missing = [entry for entry in wanted if entry not in weights and not entry.endswith("num_batches_tracked")]
    if missing:
        listed = ", ".join(missing[:LISTED]) + (", ..." if len(missing) > LISTED else "")
        raise TaskError(
            f"{key}: {path}: lacks {len(missing)} of the {len(wanted)} weights of the encoder {name!r} ({listed}). "
            "Give the weights of this encoder"
        )
    try:
        encoder.load_state_dict(wanted | weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise TaskError(f"{key}: {path}: does not fit the encoder {name!r} ({reason})") from error


def load_network(path: Path, description: Mapping[str, Any], classes: int) -> torch.nn.Module:
    """The trained network in a file or folder, on the CPU.

    Args:
        path: a folder of a saved task or of save_pretrained, or a file of weights.
        description: of the network, from `read_description`.
        classes: number of classes.

    Raises:
        TaskError: the weights do not fit the description, or the number of classes.
    """
    network = build_network(description, classes, None)
    inner = network.network if isinstance(network, TwoClasses) else network
    try:
        inner.load_state_dict(match_names(read_state(path), inner.state_dict()))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise TaskError(
            f"{path}: the weights do not fit {_label(description)} with {classes} classes. Correct {KEY} ({reason})"
        ) from error
    return network


def library_network(folder: Path) -> torch.nn.Module:
    """The network in a folder of save_pretrained, as the library itself loads it, without its last activation.

    Raises:
        TaskError: the library cannot load it.
    """
    import segmentation_models_pytorch as smp

    try:
        with redirect_stdout(StringIO()):  # it reports its progress
            network: torch.nn.Module = smp.from_pretrained(str(folder), encoder_weights=None, activation=None)
    except Exception as error:  # a folder of any content
        reason = " ".join(str(error).split())[:300]
        raise TaskError(f"{KEY}.weights: {folder}: segmentation-models-pytorch cannot load it ({reason})") from error
    return network.eval()


def _label(description: Mapping[str, Any]) -> str:
    return f"architecture {description['architecture']!r} with encoder {description['encoder']!r}"


def build_network(description: Mapping[str, Any], classes: int, weights: str | None) -> torch.nn.Module:
    """A network with random weights, or with the encoder's published ones.

    Raises:
        TaskError: the library cannot build it, or the published weights are not in the local cache.
    """
    if not isinstance(description, Mapping) or not {"architecture", "encoder"} <= set(description):
        raise TaskError(f"segmentation: expected a network's architecture and encoder, got {str(description)[:80]!r}")
    extra = {key: value for key, value in description.items() if key not in ("input", "outputs")}
    architecture, encoder = str(extra.pop("architecture")), extra.pop("encoder")
    if is_yolo(architecture):
        if extra:
            raise TaskError(f"{KEY}.arguments: {architecture} takes none; remove {', '.join(extra)}")
        return _yolo(architecture, classes, weights)
    import segmentation_models_pytorch as smp

    if architecture == "dpt":
        extra.setdefault("dynamic_img_size", True)  # otherwise its transformer takes a single image size
    from_timm = str(encoder).startswith("tu-")  # these take True instead of a name of weights
    encoder_weights = (True if from_timm else weights) if weights else None
    outputs = description.get("outputs", classes)
    try:
        with from_cache_only(f"{KEY}.weights", encoder):
            network: torch.nn.Module = smp.create_model(
                architecture, encoder, encoder_weights=encoder_weights, in_channels=3, classes=outputs, **extra
            )
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        if isinstance(error, TaskError):
            raise
        reason = " ".join(str(error).split())[:600]
        raise TaskError(f"{KEY}: segmentation-models-pytorch cannot build {_label(description)}: {reason}") from error
    return TwoClasses(network) if "outputs" in description else network


def is_yolo(architecture: str) -> bool:
    """Whether an architecture is a model YAML of ultralytics."""
    return architecture.endswith((".yaml", ".yml"))


def _yolo(model: str, classes: int, weights: str | None) -> torch.nn.Module:
    from .yolo_library import SemanticYolo

    if weights is not None:
        raise TaskError(f"{KEY}.weights: {weights}: there are none for {model}; set weights: null")
    return SemanticYolo(model, classes)
