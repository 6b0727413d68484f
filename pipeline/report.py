"""Stage report: the tables, the pictures and a page of words, all from files that other stages wrote."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from data import images
from data.manifest import Dataset, Split
from models.tasks import get_task
from pipeline import pictures, runtime, tables, words
from pipeline.identity import CLEAN, DEGRADED
from pipeline.params import Params, load_params

COSTS = [
    "stage",
    "degradation",
    "variant",
    "parameters",
    "seconds_per_step",
    "training_seconds",
    "milliseconds_per_image",
]


def write_tables(params: Params, evaluations: Path, quality: Path, out: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write results.csv and gains.csv; returns both."""
    results: list[dict[str, Any]] = []
    gains: list[dict[str, Any]] = []
    level = params.statistics.level
    for task in [*params.tasks, tables.QUALITY]:
        for degradation in params.degradations:
            cell = tables.read_cell(params, _record_files(params, task, degradation, evaluations, quality))
            results += tables.result_rows(task, degradation, cell, level)
            gains += tables.gain_rows(task, degradation, cell, level)
    return (
        tables.write_table(results, tables.RESULTS, out / "results.csv"),
        tables.write_table(gains, tables.GAINS, out / "gains.csv"),
    )


def write_costs(params: Params, costs: Path, out: Path) -> pd.DataFrame:
    """Gather costs.csv: what each training and each restored image cost on this machine."""
    rows: list[dict[str, Any]] = [{"stage": "train_prior", **_read(costs / "prior.json")}]
    rows += [{"stage": f"train_task {task}", **_read(costs / "tasks" / f"{task}.json")} for task in params.tasks]
    rows += [
        {
            "stage": "train_restorer",
            "degradation": degradation,
            "variant": objective,
            **_read(costs / "training" / degradation / f"{objective}.json"),
            **_read(costs / "restoring" / degradation / f"{objective}.json"),
        }
        for degradation in params.degradations
        for objective in params.objectives
    ]
    table = pd.DataFrame(rows, columns=COSTS)
    table.to_csv(out / "costs.csv", index=False, lineterminator="\n")
    return table


def draw_pictures(params: Params, clean: Dataset, folders: dict[str, Path], evaluations: Path, out: Path) -> None:
    """A grid for each degradation and task: degraded, restored by each objective, clean, with predictions; labels."""
    truth = clean.split(clean.evaluation_split)
    chosen = pictures.evenly(truth.ids, params.report.pictures)
    out.mkdir()
    for degradation in params.degradations:
        for task in params.tasks:
            folder = evaluations / task / degradation
            columns = _columns(params, task, degradation, truth, folders, folder, chosen, clean)
            images.write_image(out / f"{degradation}-{task}.png", pictures.grid(columns))


def _columns(
    params: Params,
    name: str,
    degradation: str,
    truth: Split,
    folders: dict[str, Path],
    evaluation: Path,
    chosen: list[str],
    clean: Dataset,
) -> dict[str, list[pictures.Image]]:
    kind = get_task(name)
    classes = clean.info.classes[name]
    sources = {DEGRADED: folders["degraded"] / degradation / truth.folder.name / "images"}
    sources |= {objective: folders["restored"] / degradation / objective for objective in params.objectives}
    sources[CLEAN] = truth.folder / "images"
    columns = {}
    for variant, source in sources.items():
        predictions = kind.read(evaluation / variant / "predictions")
        columns[variant] = [
            kind.draw(images.read_image(source / f"{id}.png"), predictions[id], classes) for id in chosen
        ]
    columns["labels"] = [kind.draw(truth.image(id), kind.truth(truth, id), classes) for id in chosen]
    return columns


def _record_files(params: Params, task: str, degradation: str, evaluations: Path, quality: Path) -> dict[str, Path]:
    if task == tables.QUALITY:
        return {name: quality / degradation / f"{name}.npz" for name in [DEGRADED, *params.objectives]}
    folder = evaluations / task / degradation
    return {name: folder / name / "records.npz" for name in [CLEAN, DEGRADED, *params.objectives]}


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def main() -> None:
    """Command line."""
    options = runtime.arguments("clean", "degraded", "restored", "quality", "evaluations", "costs", "out")
    params = load_params()
    clean = Dataset.open(Path(options.clean))
    folders = {"degraded": Path(options.degraded), "restored": Path(options.restored)}
    with runtime.replacing_folder(Path(options.out)) as out:
        results, gains = write_tables(params, Path(options.evaluations), Path(options.quality), out)
        costs = write_costs(params, Path(options.costs), out)
        draw_pictures(params, clean, folders, Path(options.evaluations), out / "pictures")
        text = words.page(params, clean, results, gains, costs)
        (out / "report.md").write_text(text)
    print(words.summary(results, gains))


if __name__ == "__main__":
    runtime.run_stage(main)
