"""What the commands share that are no stages: they end in one line, and write their results whole. Not a stage."""

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from data.dataset import Dataset
from pipeline.running.artifacts import trained_files
from pipeline.running.atomic_outputs import read_json
from pipeline.settings.grammar import objective_losses
from pipeline.settings.params import PARAMS_FILE, Params, ParamsError, load_params, read_yaml

DAG = Path("dvc.yaml")
LOCK = Path("dvc.lock")  # what DVC ran each stage with
NEXT = "run `uv run dvc repro` first"


class FinishedError(ValueError):
    """A result that is not there, or was made of something else; the text says which and what to do."""


@dataclass(frozen=True)
class Finished:
    """One degradation and objective of the finished run in this folder.

    Attributes:
        params: of the run.
        degradation: one of its degradations.
        objective: one of its objectives.
        training: the number of the restorer's training, from 1.
    """

    params: Params
    degradation: str
    objective: str
    training: int = 1

    @classmethod
    def chosen(cls, options: Namespace) -> "Finished":
        """What --degradation, --objective and --training name.

        Raises:
            ParamsError: params.yaml does not have them.
        """
        params = load_params()
        for name, known in (("degradation", params.degradations), ("objective", params.objectives)):
            if getattr(options, name) not in known:
                raise ParamsError(f"--{name} {getattr(options, name)!r}: params.yaml has {', '.join(known)}")
        return cls(params, options.degradation, options.objective, options.training)

    def folder(self, stage: str, **item: str) -> Path:
        """The first output of a stage of dvc.yaml, for this degradation and objective.

        Raises:
            FinishedError: it is not there.
        """
        path = Path(_fill(self._stages[stage]["outs"][0], {**self._item, **item}))
        if not path.exists():
            raise FinishedError(f"{path}: not there; {NEXT}")
        return path

    @cached_property
    def clean(self) -> Dataset:
        """The clean dataset."""
        return Dataset.open(self.folder("prepare"))

    @cached_property
    def degraded(self) -> Dataset:
        """The degraded dataset."""
        return Dataset.open(self.folder("degrade"))

    @cached_property
    def weights(self) -> Path:
        """The weights of the restorer.

        Raises:
            FinishedError: it was not trained as often.
        """
        files = trained_files(self.folder("train_restorer"))
        if not 1 <= self.training <= len(files):
            raise FinishedError(f"--training {self.training}: this restorer has {len(files)} (train_restorer.repeats)")
        return files[self.training - 1]

    def check_params(self) -> None:
        """Compare params.yaml with what the restorer was trained with, as far as DVC has recorded it.

        Raises:
            FinishedError: a value has changed since.
        """
        self.folder("train_restorer")  # where nothing was run, this is what is missing
        self._check_objective()
        if not LOCK.exists():
            return
        name = f"train_restorer@{self.degradation}-{self.objective}"
        stages = read_yaml(LOCK, hint=NEXT).get("stages", {})
        recorded = stages.get(name, {}).get("params", {}).get(PARAMS_FILE.name, {})
        content = read_yaml(PARAMS_FILE, hint="run in the project's root")
        for key, before in recorded.items():
            now = _value(content, key)
            if now != before:
                raise FinishedError(
                    f"{PARAMS_FILE}: {key} is {now!r}, this restorer was trained with {before!r}; {NEXT}"
                )

    def _check_objective(self) -> None:
        """The settings of the objective, which its own stage has written down."""
        trained = read_json(self.folder("objective"), "steps", "losses")
        steps = self.params.train_restorer.of(self.objective).steps
        if trained["steps"] != steps:
            raise FinishedError(
                f"{PARAMS_FILE}: {self.objective!r} has {steps} steps, this restorer was trained for "
                f"{trained['steps']}; {NEXT}"
            )
        summed = objective_losses(self.objective, self.params.losses)
        losses = {name: {"kind": kind, "settings": settings} for name, (kind, settings) in summed.items()}
        changed = [name for name in {**trained["losses"], **losses} if trained["losses"].get(name) != losses.get(name)]
        if changed:
            raise FinishedError(
                f"{PARAMS_FILE}: losses.{changed[0]} has changed since this restorer was trained; {NEXT}"
            )

    @cached_property
    def _stages(self) -> dict[str, Any]:
        stages: dict[str, Any] = read_yaml(DAG, hint="run in the project's root")["stages"]
        return stages

    @property
    def _item(self) -> dict[str, str]:
        return {"degradation": self.degradation, "objective": self.objective}


def add_choice(parser: ArgumentParser) -> None:
    """The options that choose one restorer of a finished run."""
    parser.add_argument("--degradation", required=True, help="one of params.yaml's")
    parser.add_argument("--objective", required=True, help="one of params.yaml's")
    parser.add_argument(
        "--training", type=int, default=1, help="which one, where train_restorer.repeats is above 1 (%(default)s)"
    )


def _fill(path: str, item: dict[str, str]) -> str:
    for name, value in item.items():
        path = path.replace(f"${{item.{name}}}", value)
    return path


def _value(content: Any, key: str) -> Any:
    """The value of a key such as train_restorer.steps; None where there is none."""
    for part in key.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    return content
