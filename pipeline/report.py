"""Stage report: the tables, the pictures and the pages of words, all from files that other stages wrote."""

from pathlib import Path
from typing import Any

import pandas as pd

from data import images
from data.dataset import Dataset, Split
from models.tasks import get_task
from pipeline.datasets.degrading import read_manifest
from pipeline.reporting import (
    breakdown,
    breakdown_text,
    dvc_metrics,
    extremes,
    html,
    markdown,
    pictures,
    scatter_plots,
    tables,
)
from pipeline.reporting.html.origin import describe
from pipeline.reporting.html.sliders import Sliders
from pipeline.running.artifacts import CLEAN, FROZEN_NETWORK, LEFT_OUT_FILE, variant_folder
from pipeline.running.atomic_outputs import read_json, replacing_folder
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.settings.grammar import DEGRADED
from pipeline.settings.params import Params, load_params
from pipeline.statistics.scores import read_cells
from pipeline.statistics.verdicts import verdict_table

Tables = dict[str, pd.DataFrame]
COLUMNS = {
    "results": tables.RESULTS,
    "gains": tables.GAINS,
    "severities": tables.SEVERITIES,
    "robustness": tables.ROBUSTNESS,
}
COSTS = [
    "stage",
    "degradation",
    "variant",
    "parameters",
    "seconds_per_step",
    "training_seconds",
    "milliseconds_per_image",
    "gflops",
    "peak_memory_mib",
    "megapixels",
]


def write_tables(params: Params, degraded: Path, evaluations: Path, quality: Path, out: Path) -> Tables:
    """Write results.csv, gains.csv, severities.csv and robustness.csv; returns all of them by name."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in COLUMNS}
    level, rivals = params.statistics.level, (params.pixel_objectives, params.statistics.rivals)
    severities = {name: _severities(degraded / name) for name in params.degradations}
    for task in [*params.tasks, tables.QUALITY]:
        folders = {name: record_folders(params, task, name, evaluations, quality) for name in params.degradations}
        # Real photos without clean counterparts have no quality.
        cells = {name: read_cells(params, own, severities[name]) for name, own in folders.items() if own}
        for degradation, own in cells.items():
            rows["results"] += tables.result_rows(task, degradation, own.whole, level)
            rows["gains"] += tables.gain_rows(task, degradation, own.whole, level, *rivals)
            rows["severities"] += tables.severity_rows(task, degradation, own, level)
        rows["robustness"] += tables.robustness_rows(task, list(cells.values()), level)
    found = {name: tables.write_table(rows[name], columns, out / f"{name}.csv") for name, columns in COLUMNS.items()}
    found["verdicts"] = verdict_table(found["results"], found["gains"], params.statistics)
    found["verdicts"].to_csv(out / "verdicts.csv", index=False, float_format="%.6g", lineterminator="\n")
    return found


def record_folders(params: Params, task: str, degradation: str, evaluations: Path, quality: Path) -> dict[str, Path]:
    """Where the records of each variant lie, in the order of the tables; nothing for what does not exist."""
    if task == tables.QUALITY:
        folders = {variant: quality / degradation / variant for variant in (DEGRADED, *params.objectives)}
    else:
        variants = (CLEAN, DEGRADED, *params.objectives, *params.arms)
        folders = {v: variant_folder(evaluations, task, degradation, v, params.arms) for v in variants}
    return {variant: folder for variant, folder in folders.items() if folder.is_dir()}


def _severities(degraded: Path) -> dict[str, dict[str, int]]:
    """The severity of each image, by split; none for real photos."""
    manifest = read_manifest(degraded)
    if "severity" not in manifest:
        return {}
    known = manifest.dropna(subset=["severity"])
    return {str(s): dict(zip(own["id"], own["severity"].astype(int), strict=True)) for s, own in known.groupby("split")}


def write_costs(params: Params, costs: Path, out: Path) -> pd.DataFrame:
    """Gather costs.csv: what each training and each restored image cost on this machine."""
    rows: list[dict[str, Any]] = [{"stage": "train_prior", **read_json(costs / "prior.json")}]
    rows += [{"stage": f"train_task {task}", **read_json(costs / "tasks" / f"{task}.json")} for task in params.tasks]
    rows += [
        {
            "stage": "train_restorer",
            "degradation": degradation,
            "variant": objective,
            **read_json(costs / "training" / degradation / f"{objective}.json"),
            **read_json(costs / "restoring" / degradation / f"{objective}.json"),
        }
        for degradation in params.degradations
        for objective in params.objectives
    ]
    table = pd.DataFrame(rows, columns=COSTS)
    table.to_csv(out / "costs.csv", index=False, lineterminator="\n")
    return table


def draw_pictures(params: Params, clean: Dataset, folders: dict[str, Path], evaluations: Path, out: Path) -> Sliders:
    """A grid for each degradation and task: degraded, restored by each objective, clean, with predictions; labels.

    Returns:
        The same images for the page's sliders.
    """
    out.mkdir()
    sliders = Sliders(len(params.degradations) * len(params.tasks))
    for degradation in params.degradations:
        degraded = Dataset.open(folders["degraded"] / degradation)
        split = degraded.evaluation_splits[-1]  # of several severities the last
        chosen = pictures.evenly(degraded.split(split).ids, params.report.pictures)
        sources = {DEGRADED: degraded.folder / split / "images"}
        sources |= {one: folders["restored"] / degradation / one / split for one in params.objectives}
        if degraded.has_clean_images:
            sources[CLEAN] = clean.split(clean.evaluation_split).folder / "images"
        for task in params.tasks:
            columns = _columns(
                task, degraded.split(split), sources, evaluations / task / degradation / FROZEN_NETWORK, chosen, clean
            )
            images.write_image(out / f"{degradation}-{task}.png", pictures.grid(columns))
            sliders.add(degradation, task, chosen, columns)
    return sliders


def _columns(
    name: str, truth: Split, sources: dict[str, Path], evaluation: Path, chosen: list[str], clean: Dataset
) -> dict[str, list[pictures.Image]]:
    kind = get_task(name)
    classes = clean.info.classes[kind.labels]
    columns = {}
    for variant, source in sources.items():
        split = clean.evaluation_split if variant == CLEAN else truth.folder.name
        predictions = kind.read(evaluation / variant / split / "predictions")
        columns[variant] = [
            kind.draw(images.read_image(source / f"{id}.png"), predictions[id], classes) for id in chosen
        ]
    background = sources.get(CLEAN, sources[DEGRADED])
    columns["labels"] = [
        kind.draw(images.read_image(background / f"{id}.png"), kind.truth(truth, id), classes) for id in chosen
    ]
    return columns


def write_breakdown(
    params: Params,
    clean: Dataset,
    folders: dict[str, Path],
    evaluations: Path,
    quality: Path,
    gains: pd.DataFrame,
    out: Path,
) -> str:
    """Write where the gains come from, as tables and pictures; returns it as sections of report.md."""

    def of(task: str, degradation: str) -> dict[str, Path]:
        return record_folders(params, task, degradation, evaluations, quality)

    found = breakdown.write_breakdown(params, clean, folders["degraded"], of, gains, out)
    drawn = scatter_plots.draw_plots(params, found["images"], out / "pictures")
    for degradation in params.degradations:
        degraded, restored = Dataset.open(folders["degraded"] / degradation), folders["restored"] / degradation
        for task in params.tasks:
            painter = extremes.Painter(task, clean, degraded, restored, of(task, degradation))
            drawn += extremes.draw_extremes(params, found["images"], degradation, painter, out / "pictures")
    return "\n" + breakdown_text.sections(found, drawn, _left_out(params, quality))


def _left_out(params: Params, quality: Path) -> dict[str, str]:
    """Which metrics of image quality could not be measured for some degradation, and why."""
    files = [quality / degradation / LEFT_OUT_FILE for degradation in params.degradations]
    return {name: reason for file in files if file.exists() for name, reason in read_json(file).items()}


def main() -> None:
    """Command line."""
    options = parse_arguments("clean", "degraded", "restored", "restorers", "quality", "evaluations", "costs", "out")
    params = load_params()
    clean = Dataset.open(Path(options.clean))
    folders = {"degraded": Path(options.degraded), "restored": Path(options.restored)}
    with replacing_folder(Path(options.out)) as out:
        found = write_tables(params, folders["degraded"], Path(options.evaluations), Path(options.quality), out)
        costs = write_costs(params, Path(options.costs), out)
        dvc_metrics.write_metrics(found["results"], found["gains"], out)
        dvc_metrics.write_curves(Path(options.restorers), params.degradations, params.objectives, out)
        sliders = draw_pictures(params, clean, folders, Path(options.evaluations), out / "pictures")
        evaluations, quality = Path(options.evaluations), Path(options.quality)
        sections = write_breakdown(params, clean, folders, evaluations, quality, found["gains"], out)
        text = markdown.page(params, clean, found, costs) + sections
        (out / "report.md").write_text(text)
        page = html.page(params, clean, out, describe(params, clean, folders["degraded"]), sliders.all)
        (out / "report.html").write_text(page)
    print(markdown.summary(found["results"], found["gains"]))


if __name__ == "__main__":
    run_stage(main)
