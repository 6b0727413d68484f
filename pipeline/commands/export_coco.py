"""Command: write labels and predictions as COCO JSON, which FiftyOne and other tools read.

    python -m pipeline.commands.export_coco --out exported

It writes, for every task with boxes or masks of objects and every degradation:

    <out>/<task>/<degradation>/labels-<split>.json      images, categories and annotations
    <out>/<task>/<degradation>/<variant>-<split>.json   results of one variant, with the same ids
    <out>/files.json                                    the list of these files

The second training of a restorer has the split `<split>~2`, and so on. Images have their file's name alone, because the
degraded and all restored ones have the same; `info.images` in the labels is the folder of the degraded ones.
"""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.dataset import Dataset, Split
from pipeline.commands.completed_runs import ADVICE, CompletedRunError
from pipeline.metrics import ObjectScoring, get_scoring
from pipeline.running.artifacts import variant_folder
from pipeline.running.atomic_outputs import replacing_output
from pipeline.running.entry import run_command
from pipeline.settings.grammar import CLEAN, DEGRADED
from pipeline.settings.params import DAG, RUN_IN_ROOT, Params, ParamsError, load_params, read_yaml

LIST = "files.json"


def export(params: Params, degraded: Path, evaluations: Path, out: Path) -> list[Path]:
    """Write all files; returns them.

    Args:
        params: the tasks, degradations, objectives and arms.
        degraded: folder of the degraded datasets.
        evaluations: folder of the stored predictions.
        out: an existing folder.

    Raises:
        ParamsError: no task has objects.
        CompletedRunError: there are no predictions.
    """
    scorings = {task: get_scoring(task) for task in params.tasks}
    tasks = {task: scoring for task, scoring in scorings.items() if issubclass(scoring, ObjectScoring)}
    if not tasks:
        raise ParamsError(f"tasks: none of {', '.join(params.tasks)} predicts objects. Add detection.")
    files = []
    for task, scoring in tasks.items():
        for degradation in params.degradations:
            dataset, folder = Dataset.open(degraded / degradation), out / task / degradation
            folder.mkdir(parents=True)
            for name in dataset.evaluation_splits:
                labels = labelled(dataset.split(name), dataset.info.classes_of(scoring.labels, task), scoring)
                files.append(_write(folder / f"labels-{name}.json", labels))
            for variant in [CLEAN, DEGRADED, *params.objectives, *params.arms]:
                predictions = variant_folder(evaluations, task, degradation, variant, params.arms)
                for stored in sorted(predictions.glob("*/predictions")):
                    results = list(scoring.coco_results(scoring.read(stored)))
                    files.append(_write(folder / f"{variant}-{stored.parent.name}.json", results))
    if all(file.name.startswith("labels-") for file in files):
        raise CompletedRunError(f"{evaluations}: there are no predictions. {ADVICE}")
    return files


def labelled(split: Split, classes: list[str], scoring: type[ObjectScoring[Any]]) -> dict[str, Any]:
    """COCO's annotations of a split, with the names of its images and classes, and the folder of the images."""
    content = {"info": {"images": (split.folder / "images").as_posix()}, **scoring.coco_labels(split, len(classes))}
    for image, image_id in zip(content["images"], sorted(split.ids), strict=True):
        image["file_name"] = f"{image_id}.png"
    for category, name in zip(content["categories"], classes, strict=True):
        category["name"] = name
    return content


def _write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content) + "\n")
    return path


def _folders() -> Iterator[Path]:
    """The folders of the degraded datasets and of the predictions, from dvc.yaml."""
    stages = read_yaml(DAG, hint=RUN_IN_ROOT)["stages"]
    for stage in ("degrade", "evaluate"):
        yield Path(stages[stage]["outs"][0].partition("/${")[0])


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m pipeline.commands.export_coco", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("exported"), help="output folder (%(default)s)")
    return parser.parse_args()


def main() -> None:
    """Command line."""
    options = _options()
    degraded, evaluations = _folders()
    with replacing_output(options.out, LIST) as folder:
        files = export(load_params(), degraded, evaluations, folder)
        _write(folder / LIST, [file.relative_to(folder).as_posix() for file in files])
    print(f"{options.out}: {len(files)} files")


if __name__ == "__main__":
    run_command(main)
