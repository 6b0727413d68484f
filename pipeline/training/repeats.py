"""All trainings of one restorer, which differ in their seeds, and the files that they leave."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.dataset import Dataset
from models.losses import needs_labels
from models.restorers import CHECKPOINT, load_restorer, save_restorer
from models.restorers.contract import Restorer
from pipeline.running.artifacts import trained_file
from pipeline.running.atomic_outputs import WORK, replacing_folder
from pipeline.running.digests import checkpoint_folder, fingerprint
from pipeline.running.seeds import seed_for
from pipeline.settings.grammar import FROZEN
from pipeline.settings.params import Params
from pipeline.settings.training import restorer_modules
from pipeline.training.distributed import TrainingRank
from pipeline.training.loop import Loop, no_stream
from pipeline.training.restorers import (
    described_losses,
    load_objective,
    train_restorer,
    training_batches,
)
from pipeline.training.validation import VALIDATION, build_validator

Stream = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class RestorerTraining:
    """What a restorer is trained on.

    Attributes:
        params: of the run.
        description: what the stage `objective` wrote.
        degraded: folder of the degraded dataset, or of each one of a mixture.
        clean: folder of the clean dataset.
        prior: folder of the prior.
        tasks: folder of the trained task networks.
        degradation: its name; None: a mixture.
        text: of the progress bar.
        live: name of the clean dataset, digest of a training -> context in which its curve streams to MLflow.
    """

    params: Params
    description: dict[str, Any]
    degraded: Sequence[Path]
    clean: Path
    prior: Path
    tasks: Path
    degradation: str | None
    text: str
    live: Callable[[str, str], AbstractContextManager[Stream]]

    def checkpoint_folder(self, number: int) -> Path:
        """The folder of a training's checkpoints, named by everything that the training depends on."""
        settings = self.params.train_restorer.of(self.description["objective"])
        used = {name: value for name, value in settings.used.items() if name != "repeats"}
        splits = ["train", *([VALIDATION] if settings.validation.every is not None else [])]
        files = [Path(settings.network["weights"])] if settings.restorer == CHECKPOINT else []
        files += [folder / split / "images" for folder in (*self.degraded, self.clean) for split in splits]
        if needs_labels(described_losses(self.description)):
            files += [self.clean / "train" / name for name in ("labels", "masks")]
        code = ["pipeline.training.restorers", *restorer_modules(settings.restorer)]
        identity = [self.params.seed, used, self.description, self.degradation]
        return checkpoint_folder(code, *identity, fingerprint(*files), number)

    def run(self, number: int, rank: TrainingRank) -> tuple[Restorer, Loop]:
        """Train, or resume a killed training. The curve of the first training streams to MLflow meanwhile."""
        settings = self.params.train_restorer.of(self.description["objective"])
        degraded, clean = [Dataset.open(folder) for folder in self.degraded], Dataset.open(self.clean)
        validator = build_validator(degraded, clean, settings.validation, rank)
        work = self.checkpoint_folder(number)
        objective = load_objective(self.description, self.prior, self.tasks, rank, self.degradation)
        seed = seed_for(self.params.seed, "restorer", *([number] if number > 1 else []))
        batches = training_batches(self.description, degraded, clean, settings, seed, rank)
        is_streamed = rank.is_first and number == 1
        with self.live(clean.info.name, work.name) if is_streamed else nullcontext(no_stream) as stream:
            text = self.text + (f" {number}" if number > 1 else "")
            loop = Loop(text, work, seed, rank.device, stream, rank)
            return train_restorer(batches, objective, settings, loop, validator, rank), loop


def train_all(training: RestorerTraining, out: Path, costs: Path, rank: TrainingRank) -> None:
    """Run all trainings of a restorer. The first rank writes the weights, the curves and the costs.

    The frozen restorer is not trained, so that there is one of it.
    """
    settings, loops = training.params.train_restorer, list[Loop]()
    is_frozen = training.description["objective"] == FROZEN
    with replacing_folder(out) if rank.is_first else nullcontext() as folder:
        for number in range(1, 2 if is_frozen else settings.repeats + 1):
            if is_frozen:
                restorer = load_restorer(settings.sections[CHECKPOINT]["weights"])
                loop = Loop("frozen", WORK / "frozen", training.params.seed, rank.device)
            else:
                restorer, loop = training.run(number, rank)
            loops.append(loop)
            if folder:
                save_restorer(trained_file(folder, number), restorer)
                loop.write_curve(folder / ("curve.csv" if number == 1 else f"curve-{number}.csv"))
        if folder and is_frozen:
            # Restoring depends on the code behind a checkpoint, which its weights do not show.
            (folder / "code.txt").write_text(f"{training.description['code']}\n")
    if rank.is_first:
        loops[0].write_costs(costs, restorer)
        for loop in loops:
            loop.finish()
