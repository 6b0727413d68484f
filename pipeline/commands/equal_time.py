"""Command: measure the seconds of a training step of each objective, and print the steps for equal training times.

    python -m pipeline.commands.equal_time
    python -m pipeline.commands.equal_time --degradation fog --objectives pixel diffloss --rounds 5

A step has the restorer, batches, prior and task networks of the stage `train_restorer`; the stages before it must have
run. Validation is not measured. The objectives take turns, so that a busy machine slows all of them alike. The command
writes no files.

It prints `train_restorer.steps_of`, with which all objectives train as long as the slowest one. Put that into
params.yaml: numbers of steps, unlike seconds, keep trainings deterministic.
"""

import json
import math
import statistics
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from ruamel.yaml import YAML

from models.losses import PIXEL, needs_prior, read_settings
from models.losses.objective import Objective
from pipeline.commands.completed_runs import CompletedRun
from pipeline.running.atomic_outputs import read_json
from pipeline.running.entry import run_command
from pipeline.running.progress import progress
from pipeline.running.seeds import choose_device, seed_for
from pipeline.settings.grammar import FROZEN
from pipeline.settings.params import PARAMS_FILE, Params, ParamsError, load_params
from pipeline.training.distributed import TrainingRank
from pipeline.training.restorers import load_objective, start_optimisation, train_step, training_batches

SHORTEST_BLOCK = 10  # steps
FROM_STEP = "from_step"
EXPLANATION = [
    "For trainings that take as long as that of the slowest objective, put this into params.yaml.",
    "It has numbers of steps, not seconds, so that runs stay deterministic.",
]


@dataclass(frozen=True)
class Trainee:
    """A training whose steps are measured.

    Attributes:
        run: does some steps and waits for them.
        warm_up: steps to do before the first block.
        block: steps of a block, a multiple of the objective's cycle.
    """

    run: Callable[[int], None]
    warm_up: int
    block: int


@dataclass(frozen=True)
class StepTimes:
    """The seconds of the steps of one objective.

    Attributes:
        phases: first step of each phase -> seconds of each of its steps, in order. The first phase begins at 0; a new
            one begins where a loss starts (`from_step`).
    """

    phases: Mapping[int, float]

    def training_seconds(self, steps: int) -> float:
        """The seconds of a training of some steps."""
        return sum(seconds * (min(end, steps) - first) for first, end, seconds in self._spans() if first < steps)

    def steps_within(self, seconds: float) -> int:
        """The number of steps of a training that takes this long, rounded; at least 1."""
        left = seconds
        for first, end, step_seconds in self._spans():
            if left <= (end - first) * step_seconds:
                return max(1, round(first + left / step_seconds))
            left -= (end - first) * step_seconds
        raise AssertionError("the last phase has no end")

    def _spans(self) -> list[tuple[int, float, float]]:
        """First step, end and seconds of a step of each phase."""
        edges = pairwise([*self.phases, math.inf])
        return [(int(first), end, seconds) for (first, end), seconds in zip(edges, self.phases.values(), strict=True)]


def measure(
    trainees: Mapping[str, Trainee], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """The seconds of a step of each training, the median over the rounds. In a round, each training does one block.

    Args:
        trainees: by name.
        rounds: number of blocks of each.
        clock: gives seconds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in trainees}
    total = sum(trainee.warm_up + rounds * trainee.block for trainee in trainees.values())
    with progress(total, "equal_time", "step") as bar:
        for trainee in trainees.values():
            trainee.run(trainee.warm_up)
            bar.update(trainee.warm_up)
        for _ in range(rounds):
            for name, trainee in trainees.items():
                started = clock()
                trainee.run(trainee.block)
                seconds[name].append((clock() - started) / trainee.block)
                bar.update(trainee.block)
    return {name: statistics.median(values) for name, values in seconds.items()}


def phase_losses(losses: Mapping[str, Mapping[str, Any]]) -> dict[int, dict[str, dict[str, Any]]]:
    """The losses that the steps of each phase evaluate, by the first step of the phase.

    Args:
        losses: of an objective: name -> kind and settings, as the stage `objective` writes them.

    Returns:
        In the same form, without `from_step`.
    """
    starts = {}
    for name, loss in losses.items():
        settings = read_settings(name, loss["kind"], loss["settings"])
        starts[name] = 0 if loss["kind"] == PIXEL else settings.from_step
    started = {first: [name for name in losses if starts[name] <= first] for first in sorted({0, *starts.values()})}
    return {first: {name: _without_start(losses[name]) for name in names} for first, names in started.items()}


def _without_start(loss: Mapping[str, Any]) -> dict[str, Any]:
    settings = {key: value for key, value in loss["settings"].items() if key != FROM_STEP}
    return {"kind": loss["kind"], "settings": settings}


def equal_steps(times: Mapping[str, StepTimes], steps: int, steps_of: Mapping[str, int]) -> dict[str, int]:
    """The number of steps of each objective with which all train as long as the slowest one.

    Args:
        times: by objective.
        steps: `train_restorer.steps`. The slowest objective is the one that takes longest for them.
        steps_of: the numbers of steps in params.yaml, by objective; the slowest one keeps its number.
    """
    slowest = max(times, key=lambda name: times[name].training_seconds(steps))
    seconds = times[slowest].training_seconds(steps_of[slowest])
    return {name: times[name].steps_within(seconds) for name in times} | {slowest: steps_of[slowest]}


def step_times(
    params: Params,
    degradation: str,
    objectives: list[str],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, StepTimes]:
    """Measure the steps of some objectives on this machine. `rounds` and `clock` are those of `measure`.

    Raises:
        CompletedRunError: a stage before train_restorer has not run, or params.yaml has changed since.
    """
    rank = TrainingRank(choose_device())
    trainees: dict[str, Trainee] = {}
    phases: dict[str, dict[int, str]] = {}  # of each objective: first step -> name in `trainees`
    for objective in objectives:
        advice = f"Run `uv run dvc repro objective degrade@{degradation}` first."
        run = CompletedRun(params, degradation, objective, advice=advice)
        run.check_losses()
        description = read_json(run.folder("objective"), "losses", "network")
        phases[objective] = {}
        for first, losses in phase_losses(description["losses"]).items():
            name = json.dumps(losses, sort_keys=True)  # objectives share the phase before `from_step`
            phases[objective][first] = name
            if name not in trainees:
                trainees[name] = _start(run, {**description, "losses": losses}, rank)
    seconds = measure(trainees, rounds, clock)
    return {
        objective: StepTimes({first: seconds[name] for first, name in names.items()})
        for objective, names in phases.items()
    }


def _start(run: CompletedRun, description: dict[str, Any], rank: TrainingRank) -> Trainee:
    """A training as the stage train_restorer starts it."""
    settings, seed = run.params.train_restorer.of(run.objective), seed_for(run.params.seed, "restorer")
    kinds = {name: (loss["kind"], loss["settings"]) for name, loss in description["losses"].items()}
    prior = run.folder("train_prior") if needs_prior(kinds) else Path()
    network = description["network"]
    tasks = run.folder("train_task", task=network).parent if network else Path()
    objective = load_objective(description, prior, tasks, rank, run.degradation).to(rank.device)
    batches = training_batches(description, [run.degraded], run.clean, settings, seed, rank)
    optimisation = start_optimisation(settings, seed, rank)
    done = 0

    def do_steps(count: int) -> None:
        nonlocal done
        for step in range(done, done + count):
            train_step(batches, objective, optimisation, seed, step)
        done += count
        if rank.device.type == "cuda":
            torch.cuda.synchronize()

    return Trainee(do_steps, *block_sizes(objective))


def block_sizes(objective: Objective) -> tuple[int, int]:
    """The steps of the warm-up and of a block that covers whole cycles of an objective."""
    block = math.ceil(SHORTEST_BLOCK / objective.cycle) * objective.cycle
    return max(objective.settled, block), block


def render(times: Mapping[str, StepTimes], params: Params) -> str:
    """A table of the objectives, and the YAML for params.yaml."""
    steps = params.train_restorer.steps
    equal = equal_steps(times, steps, {name: params.train_restorer.of(name).steps for name in times})
    baseline = next((name for name in times if name in params.pixel_objectives), next(iter(times)))
    unit = times[baseline].training_seconds(steps)
    rows = [("objective", "seconds of a step", f"ratio to {baseline}", "steps for equal time")]
    for name, time_of in times.items():
        seconds = time_of.training_seconds(steps)
        rows.append((name, f"{seconds / steps:.4f}", f"{seconds / unit:.2f}", str(equal[name])))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if any(len(time_of.phases) > 1 for time_of in times.values()):
        lines.append(
            f"Means over {steps} steps: some losses start later ({FROM_STEP}); steps before that take less time."
        )
    return "\n".join([*lines, "", *EXPLANATION, "", "train_restorer:", f"  steps_of: {_flow(equal)}"])


def _flow(values: Mapping[str, int]) -> str:
    """A mapping as YAML in one line."""
    yaml, stream = YAML(typ="safe"), StringIO()
    yaml.default_flow_style = True
    yaml.width, yaml.sort_base_mapping_type_on_output = 10**6, False  # type: ignore[assignment]
    yaml.dump(dict(values), stream)
    return stream.getvalue().strip()


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m pipeline.commands.equal_time", description=__doc__)
    parser.add_argument("--degradation", help="one of those in params.yaml (the first)")
    parser.add_argument("--objectives", nargs="+", help="some of those in params.yaml (all)")
    parser.add_argument("--rounds", type=int, default=3, help="blocks of steps of each objective (%(default)s)")
    return parser.parse_args()


def main() -> None:
    """Command line."""
    options, params = _options(), load_params()
    degradation = options.degradation or params.degradations[0]
    objectives = options.objectives or [name for name in params.objectives if name != FROZEN]
    for option, values, known in (
        ("--degradation", [degradation], params.degradations),
        ("--objectives", objectives, [name for name in params.objectives if name != FROZEN]),
    ):
        for value in values:
            if value not in known:
                choices = ", ".join(known) or "none"
                raise ParamsError(f"{option}: {value!r} is not trained by {PARAMS_FILE}. Choose one of {choices}.")
    if options.rounds < 1:
        raise ParamsError(f"--rounds: expected at least 1, got {options.rounds}. Choose 3 or more.")
    if params.processes > 1:
        raise ParamsError(
            f"{PARAMS_FILE}: processes: {params.processes}, but the steps of one process are measured. Set processes "
            "to 1 for this command."
        )
    print(render(step_times(params, degradation, list(dict.fromkeys(objectives)), options.rounds), params))


if __name__ == "__main__":
    run_command(main)
