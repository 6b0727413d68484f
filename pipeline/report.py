"""Stage report: the tables, figures and pictures of a run, and report.md and report.html with all of them."""

from pathlib import Path

from data.dataset import Dataset
from pipeline.reporting import html, markdown
from pipeline.reporting.breakdown import write_breakdown
from pipeline.reporting.clean_harm import write_clean_harm
from pipeline.reporting.contents import Pictures, describe_report
from pipeline.reporting.document import Document
from pipeline.reporting.origin import describe_origin
from pipeline.reporting.prediction_pictures import draw_comparisons, draw_extremes
from pipeline.reporting.scatter_plots import draw_scatter_plots
from pipeline.reporting.tables import RunFolders, read_groups, write_costs, write_curves, write_metrics, write_tables
from pipeline.running.artifacts import LEFT_OUT_FILE
from pipeline.running.atomic_outputs import read_json, replacing_folder
from pipeline.running.entry import parse_arguments, run_stage
from pipeline.settings.params import Params, load_params

FOLDERS = ("degraded", "restored", "restorers", "quality", "evaluations", "costs")


def write_report(params: Params, clean: Dataset, folders: RunFolders, out: Path) -> dict[str, str]:
    """Write the whole report into an existing folder.

    Returns:
        The metrics of image quality that could not be measured for some degradation, with the reason.
    """
    groups = read_groups(params, clean, folders.degraded)
    tables = write_tables(params, folders, groups, out)
    write_costs(params, folders.costs, out)
    write_clean_harm(params, clean, folders, tables["gains"], out)
    write_metrics(tables["results"], tables["gains"], out)
    write_curves(folders.restorers, params.degradations, params.objectives, out)
    tables |= write_breakdown(params, clean, folders, groups, tables["gains"], out)

    drawn = out / "pictures"
    drawn.mkdir()
    comparisons = draw_comparisons(params, clean, folders, drawn)
    extremes = draw_extremes(params, clean, folders, tables["images"], drawn)
    quality = draw_scatter_plots(params, tables["images"], drawn)
    pictures = Pictures(comparisons, extremes, quality)

    origin = describe_origin(params, clean, folders.degraded)
    left_out = _left_out_metrics(params, folders.quality)
    write_pages(describe_report(params, clean, out, groups, origin, pictures, left_out), out)
    return left_out


def _left_out_metrics(params: Params, quality: Path) -> dict[str, str]:
    files = [quality / degradation / LEFT_OUT_FILE for degradation in params.degradations]
    return {name: reason for file in files if file.exists() for name, reason in read_json(file).items()}


def write_pages(document: Document, out: Path) -> None:
    """Write report.md, report.html and the figures, which the HTML page has in itself."""
    for figure in document.figures():
        (out / "pictures" / figure.file).write_bytes(figure.svg)
    (out / "report.md").write_text(markdown.render(document))
    (out / "report.html").write_text(html.render(document))


def main() -> None:
    """Command line."""
    options = parse_arguments("clean", *FOLDERS, "out")
    clean = Dataset.open(Path(options.clean))
    folders = RunFolders(**{name: Path(getattr(options, name)) for name in FOLDERS})
    with replacing_folder(Path(options.out)) as out:
        left_out = write_report(load_params(), clean, folders, out)
    for name, reason in left_out.items():
        print(f"image quality: {name} left out: {reason}")


if __name__ == "__main__":
    run_stage(main)
