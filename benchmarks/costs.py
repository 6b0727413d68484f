"""Predict the cost of a large run from small runs of the same networks, images and batches.

    python -m benchmarks.costs [--params benchmarks/coco.yaml] [--train 118287] [--test 5000] [--check] [--gpu 50]

Every stage costs a + b n core seconds: a for starting, b for each of its n images or steps. a and b are fitted to two
small runs of one degradation; the stage `degrade` also runs with each of the others. The formula adds up all stages of
the large run. --check compares it with two more small runs, the second four times as large as the first.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from benchmarks.stages import PROJECT, StageCost, measure, project, run, size

HOUR, GIB = 3600.0, 2.0**30
GPU_STAGES = ("train_prior", "train_task", "train_restorer", "restore", "evaluate", "evaluate_clean")


@dataclass(frozen=True)
class Size:
    """How large a run is.

    Attributes:
        train: training images.
        test: test images.
        steps: of every training; None: those in the parameters.
    """

    train: int
    test: int
    steps: int | None = None


MEASURED = (Size(8, 6, 2), Size(24, 18, 6))
CHECKED = (Size(12, 9, 3), Size(48, 36, 12))
COCO = Size(118287, 5000)


@dataclass(frozen=True)
class Line:
    """The cost of one kind of stage: fixed + each * units.

    Attributes:
        seconds: (fixed, for each unit) core seconds.
        bytes: (fixed, for each unit) bytes of its outputs.
    """

    seconds: tuple[float, float]
    bytes: tuple[float, float]


Points = dict[str, list[tuple[float, StageCost]]]  # kind of stage -> (units, cost)


def sized(params: dict[str, Any], run_size: Size) -> dict[str, Any]:
    """The parameters cut down to a small run of one degradation."""
    limit = {"train": run_size.train, "val": None, "test": run_size.test}
    source = params["data"]["source"]
    section = {**params["data"][source], "limit": limit}
    if source == "scenes":
        section = {**params["data"][source], "train": run_size.train, "val": 1, "test": run_size.test}
    tasks = {name: {**section, **_length(section, run_size)} for name, section in params["train_task"].items()}
    losses = params["losses"]
    return {
        **params,
        "data": {**params["data"], source: section},
        "degradations": params["degradations"][:1],
        "train_prior": {**params["train_prior"], "steps": run_size.steps},
        "train_task": tasks,
        "train_restorer": {**params["train_restorer"], "steps": run_size.steps, "steps_of": {}},
        "losses": {
            name: {**section, "from_step": 0} if "from_step" in section else section for name, section in losses.items()
        },
    }


def _length(task: dict[str, Any], run_size: Size) -> dict[str, Any]:
    return {"epochs": 1} if "epochs" in task else {"steps": run_size.steps}


def stages(params: dict[str, Any], run_size: Size) -> Iterator[tuple[str, str, float, int]]:
    """(kind, what its units are, units, how many such stages there are) of a run of this size."""
    degradations, objectives, tasks = (params[name] for name in ("degradations", "objectives", "tasks"))
    images, count, trained = run_size.train + run_size.test, len(degradations), params["train_restorer"]
    for kind in ("code", "plan", "publish"):
        yield kind, "", 0, 1
    yield "prepare", "image", images, 1
    for name in degradations:
        yield f"degrade {name}", "image", images, 1
    yield "train_prior", "step", run_size.steps or params["train_prior"]["steps"], 1
    for name in tasks:
        settings = params["train_task"][name]
        if "epochs" in settings:
            yield f"train_task {name}", "image of an epoch", settings["epochs"] * run_size.train, 1
        else:
            yield f"train_task {name}", "step", run_size.steps or settings["steps"], 1
        yield f"evaluate_clean {name}", "image", run_size.test, 1
        yield f"evaluate {name}", "image", run_size.test * (1 + len(objectives)), count
    for name in objectives:
        yield "objective", "", 0, 1
        yield "train_mixture", "", 0, 1
        steps = trained["steps_of"].get(name, trained["steps"])
        yield f"train_restorer {name}", "step", run_size.steps or steps, count
        yield "restore", "image", run_size.test, count
    yield "quality", "image", run_size.test * (1 + len(objectives)), count
    yield "report", "image", run_size.test * count, 1


def kind_of(stage: str, degradation: str) -> str:
    """`train_restorer@fog-pixel` of the degradation `fog` is of the kind `train_restorer pixel`."""
    name, _, item = stage.partition("@")
    if name in ("restore", "quality", "objective", "train_mixture"):
        return name
    if name == "degrade":
        return f"degrade {item}"
    return " ".join([name, item.removeprefix(f"{degradation}-").removesuffix(f"-{degradation}")]).strip()


def measured(params: dict[str, Any], run_size: Size, more_degradations: Iterable[str] = ()) -> Points:
    """The units and costs of each stage of a small run; the stage `degrade` runs with more degradations, too."""
    small = sized(params, run_size)
    units = {kind: number for kind, _, number, _ in stages(small, run_size)}
    points: Points = defaultdict(list)
    with project(small) as folder:
        for cost in run(folder):
            kind = kind_of(cost.stage, small["degradations"][0])
            points[kind].append((units[kind], cost))
            print(f"{run_size}: {cost.stage}: {cost.seconds:.1f} core seconds", file=sys.stderr)
        for name in more_degradations:
            points[f"degrade {name}"].append((run_size.train + run_size.test, _degrade(folder, name)))
    return points


def _degrade(folder: Path, name: str) -> StageCost:
    out = Path("artifacts") / "degraded" / name
    command = f'python -m pipeline.degrade --recipe "{name}" --clean artifacts/clean --out "{out}"'
    return StageCost(f"degrade@{name}", *measure(command, folder), size(folder / out))


def fit(params: dict[str, Any]) -> dict[str, Line]:
    """Measure at both sizes; returns the line through the costs of each kind of stage, without negative parts."""
    points: Points = defaultdict(list)
    for run_size in MEASURED:
        for kind, costs in measured(params, run_size, params["degradations"][1:]).items():
            points[kind] += costs
    return {kind: Line(_line(costs, "seconds"), _line(costs, "bytes")) for kind, costs in points.items()}


def _line(points: list[tuple[float, StageCost]], name: str) -> tuple[float, float]:
    units, values = [units for units, _ in points], [float(getattr(cost, name)) for _, cost in points]
    if len(set(units)) == 1:
        return float(np.mean(values)), 0.0
    slope, start = np.polyfit(units, values, 1)
    if start < 0:
        return 0.0, float(np.mean(values) / np.mean(units))
    return (float(start), float(slope)) if slope > 0 else (float(np.mean(values)), 0.0)


def predict(lines: dict[str, Line], params: dict[str, Any], run_size: Size) -> list[tuple[str, float, float]]:
    """(kind, core seconds, bytes) of all stages of a run together, by kind."""
    totals: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for kind, _, units, count in stages(params, run_size):
        line, (seconds, written) = lines[kind], totals[kind]
        totals[kind] = (
            seconds + count * (line.seconds[0] + units * line.seconds[1]),
            written + count * (line.bytes[0] + units * line.bytes[1]),
        )
    return [(kind, *both) for kind, both in totals.items()]


def table(lines: dict[str, Line], params: dict[str, Any], run_size: Size) -> Iterator[str]:
    """The prediction, kind by kind, as a table in Markdown."""
    yield "| stage | fixed s | each unit s | unit | units | stages | core hours | GiB |"
    yield "|---|---|---|---|---|---|---|---|"
    totals = {kind: both for kind, *both in predict(lines, params, run_size)}
    rows = {kind: (unit, units) for kind, unit, units, _ in stages(params, run_size)}
    for kind, (seconds, written) in totals.items():
        fixed, each = lines[kind].seconds
        unit, units = rows[kind]
        count = sum(number for stage, _, _, number in stages(params, run_size) if stage == kind)
        yield (
            f"| {kind} | {fixed:.1f} | {each:.4f} | {unit} | {units:,.0f} | {count} "
            f"| {seconds / HOUR:,.1f} | {written / GIB:,.1f} |"
        )
    seconds, written = (sum(column) for column in zip(*totals.values(), strict=True))
    yield f"| all | | | | | | {seconds / HOUR:,.0f} | {written / GIB:,.0f} |"


def gpu_hours(totals: list[tuple[str, float, float]], cores: float) -> tuple[float, float]:
    """GPU hours of the stages that run networks, and the core hours that remain.

    Args:
        totals: what `predict` gives.
        cores: how many cores one GPU replaces.
    """
    gpu_seconds = sum(seconds for kind, seconds, _ in totals if kind.split()[0] in GPU_STAGES)
    return gpu_seconds / cores / HOUR, (sum(seconds for _, seconds, _ in totals) - gpu_seconds) / HOUR


def check(lines: dict[str, Line], params: dict[str, Any]) -> Iterator[str]:
    """The formula against two more small runs, as a table in Markdown."""
    yield "| run | core seconds predicted | measured | error | MiB predicted | measured | error |"
    yield "|---|---|---|---|---|---|---|"
    for run_size in CHECKED:
        totals = predict(lines, sized(params, run_size), run_size)
        costs = [cost for points in measured(params, run_size).values() for _, cost in points]
        columns = []
        for guess, truth, unit in (
            (sum(t[1] for t in totals), sum(cost.seconds for cost in costs), 1.0),
            (sum(t[2] for t in totals), sum(cost.bytes for cost in costs), 2.0**20),
        ):
            columns.append(f"{guess / unit:.1f} | {truth / unit:.1f} | {guess / truth - 1:+.1%}")
        yield f"| {run_size.train} + {run_size.test} images, {run_size.steps} steps | {' | '.join(columns)} |"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="What a large run costs, from small ones.")
    parser.add_argument("--params", type=Path, default=PROJECT / "benchmarks" / "coco.yaml")
    parser.add_argument("--train", type=int, default=COCO.train)
    parser.add_argument("--test", type=int, default=COCO.test)
    parser.add_argument("--gpu", type=float, default=50.0, help="cores that a GPU replaces: a guess, not measured")
    parser.add_argument("--check", action="store_true", help="compare the formula with two more runs")
    options = parser.parse_args()
    params: dict[str, Any] = YAML(typ="safe").load(options.params)
    lines, run_size = fit(params), Size(options.train, options.test)
    print("\n".join(table(lines, params, run_size)))
    gpu, rest = gpu_hours(predict(lines, params, run_size), options.gpu)
    print(
        f"If a GPU did the work of {options.gpu:g} cores: {gpu:,.0f} GPU hours and {rest:,.0f} core hours beside them."
    )
    if options.check:
        print("\n".join(check(lines, params)))


if __name__ == "__main__":
    main()
