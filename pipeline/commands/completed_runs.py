"""The results of a completed run that commands read: datasets, weights, and the parameters of their training."""

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from data.dataset import Dataset
from pipeline.running.artifacts import trained_files
from pipeline.running.atomic_outputs import read_json
from pipeline.settings.grammar import objective_losses
from pipeline.settings.params import DAG, PARAMS_FILE, RUN_IN_ROOT, Params, ParamsError, load_params, read_yaml

LOCK = Path("dvc.lock")  # the parameters that DVC ran each stage with
ADVICE = "Run `uv run dvc repro` first."


class CompletedRunError(ValueError):
    """A result is missing, or comes from another run than the rest. The text says which, and what to do."""


@dataclass(frozen=True)
class CompletedRun:
    """The results of one degradation and objective, in the current folder.

    Attributes:
        params: params.yaml.
        degradation: one of its degradations.
        objective: one of its objectives.
        training: the number of the restorer's training, from 1.
        advice: a sentence that says what to do if a result is missing or outdated.
    """

    params: Params
    degradation: str
    objective: str
    training: int = 1
    advice: str = ADVICE

    @classmethod
    def from_options(cls, options: Namespace) -> "CompletedRun":
        """The run that --degradation, --objective and --training name.

        Raises:
            ParamsError: params.yaml does not have them.
        """
        params = load_params()
        for name, known in (("degradation", params.degradations), ("objective", params.objectives)):
            value = getattr(options, name)
            if value not in known:
                raise ParamsError(f"--{name}: {value!r} is not in params.yaml. Choose one of {', '.join(known)}.")
        return cls(params, options.degradation, options.objective, options.training)

    def folder(self, stage: str, **item: str) -> Path:
        """The first output of a stage of dvc.yaml, for this degradation and objective.

        Args:
            stage: name of the stage.
            item: further values of the stage's matrix, such as task="detection".

        Raises:
            CompletedRunError: it does not exist.
        """
        path = self._stages[stage]["outs"][0]
        for name, value in {"degradation": self.degradation, "objective": self.objective, **item}.items():
            path = path.replace(f"${{item.{name}}}", value)
        if not Path(path).exists():
            raise CompletedRunError(f"{path}: does not exist. {self.advice}")
        return Path(path)

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
            CompletedRunError: the restorer has fewer trainings.
        """
        files = trained_files(self.folder("train_restorer"))
        if not 1 <= self.training <= len(files):
            raise CompletedRunError(
                f"--training: {self.training}, but train_restorer.repeats was {len(files)}. Choose a number "
                f"between 1 and {len(files)}."
            )
        return files[self.training - 1]

    def check_params(self) -> None:
        """Compare params.yaml with the parameters of the restorer's training, as far as DVC has recorded them.

        Raises:
            CompletedRunError: a value has changed since.
        """
        self.folder("train_restorer")  # raises if nothing has run yet
        self._check_steps()
        self.check_losses()
        if not LOCK.exists():
            return
        stage = f"train_restorer@{self.degradation}-{self.objective}"
        stages = read_yaml(LOCK, hint=ADVICE).get("stages", {})
        recorded = stages.get(stage, {}).get("params", {}).get(PARAMS_FILE.name, {})
        content = read_yaml(PARAMS_FILE, hint=RUN_IN_ROOT)
        for key, before in recorded.items():
            now = _nested_value(content, key)
            if now != before:
                raise CompletedRunError(
                    f"{PARAMS_FILE}: {key} is {now!r}, but this restorer was trained with {before!r}. {ADVICE}"
                )

    def _check_steps(self) -> None:
        """Compare the objective's number of steps with the one that the stage `objective` wrote."""
        trained = read_json(self.folder("objective"), "steps")
        steps = self.params.train_restorer.of(self.objective).steps
        if trained["steps"] != steps:
            raise CompletedRunError(
                f"{PARAMS_FILE}: {self.objective!r} has {steps} steps, but this restorer was trained for "
                f"{trained['steps']}. {self.advice}"
            )

    def check_losses(self) -> None:
        """Compare the objective's losses with those that the stage `objective` wrote.

        Raises:
            CompletedRunError: one has changed since.
        """
        trained = read_json(self.folder("objective"), "losses")
        summed = objective_losses(self.objective, self.params.losses)
        losses = {name: {"kind": kind, "settings": settings} for name, (kind, settings) in summed.items()}
        changed = [name for name in {**trained["losses"], **losses} if trained["losses"].get(name) != losses.get(name)]
        if changed:
            raise CompletedRunError(f"{PARAMS_FILE}: losses.{changed[0]} has changed since this run. {self.advice}")

    @cached_property
    def _stages(self) -> dict[str, Any]:
        stages: dict[str, Any] = read_yaml(DAG, hint=RUN_IN_ROOT)["stages"]
        return stages


def add_restorer_options(parser: ArgumentParser) -> None:
    """Add the options that choose one restorer of a completed run."""
    parser.add_argument("--degradation", required=True, help="one of those in params.yaml")
    parser.add_argument("--objective", required=True, help="one of those in params.yaml")
    parser.add_argument(
        "--training",
        type=int,
        default=1,
        help="number of the training if train_restorer.repeats is above 1 (%(default)s)",
    )


def _nested_value(content: Any, key: str) -> Any:
    """The value of a dotted key such as train_restorer.steps; None if there is none."""
    for part in key.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    return content
