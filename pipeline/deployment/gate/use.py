"""A gate in front of a restorer, for photos that no run has seen. Not a stage."""

from collections.abc import Callable
from pathlib import Path

from models.tasks import get_task
from models.tasks.contract import Image
from pipeline import runtime
from pipeline.deployment.gate.features import GateError, image_features, output_features
from pipeline.deployment.gate.model import ALWAYS, NEVER, Gate

GATE_FILE = "gate.json"


class Gated:
    """Restores an image where the gate says so, and gives it back as it is elsewhere.

    Args:
        restore: uint8 RGB (H, W, 3) to the same.
        gate: the folder that `python -m pipeline.gate` wrote.
        network: the folder of the task's network that the gate was fitted with.

    Attributes:
        kept: how many images were given back as they are.

    Raises:
        GateError: no gate, or no network of its task.
    """

    def __init__(self, restore: Callable[[Image], Image], gate: Path, network: Path) -> None:
        self._restore, self.kept = restore, 0
        self._gate, about = Gate.load(gate / GATE_FILE)
        name = str(about["task"])
        if not network.is_dir():
            raise GateError(f"--network {network}: no such folder; this gate needs the network of {name}")
        try:
            self._task = get_task(name).load(network, runtime.device())
        except (OSError, KeyError, ValueError) as error:
            raise GateError(f"--network {network}: not a network of {name}, which this gate needs ({error})") from error

    def __call__(self, image: Image) -> Image:
        if self._says_restore(image):
            return self._restore(image)
        self.kept += 1
        return image

    def _says_restore(self, image: Image) -> bool:
        if isinstance(self._gate.threshold, str):
            return {ALWAYS: True, NEVER: False}[self._gate.threshold]
        return self._gate.decide(image_features(image) | output_features(self._task.predict(image)))
