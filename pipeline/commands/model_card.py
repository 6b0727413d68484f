"""The model card of an exported restorer: origin, scores, harm, parity with PyTorch, latency and limits."""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from models.restorers.contract import Restorer
from pipeline.commands.completed_runs import ADVICE, CompletedRun, CompletedRunError
from pipeline.metrics import QUALITY
from pipeline.reporting.markdown import table
from pipeline.running.digests import data_digest, git_commit
from pipeline.settings.grammar import CLEAN, CLEAN_RESTORED, DEGRADED
from pipeline.statistics.verdicts import WITHHELD

TOLERANCE = 1e-4  # of images in [0, 1]; a graph that is right for its traced size alone differs by more
LICENCE = (
    "The code is AGPL-3.0-or-later. Nobody has stated a licence for these weights. The terms of their training data "
    "apply, and those of the checkpoint that they started from, if there was one. State a licence with --licence."
)
USE = """```python
import numpy, onnxruntime                     # neither PyTorch nor this project
session = onnxruntime.InferenceSession("{name}")
images = numpy.random.rand(1, 3, 240, 321).astype("float32")
restored = session.run(None, {{"images": images}})[0]
```"""


@dataclass(frozen=True)
class Parity:
    """The largest difference between PyTorch and the ONNX file at one size, for images in [0, 1]."""

    height: int
    width: int
    images: int
    difference: float


@dataclass(frozen=True)
class Latency:
    """Median milliseconds of one pass through PyTorch and through the ONNX file."""

    height: int
    width: int
    torch_milliseconds: float
    onnx_milliseconds: float
    threads: int
    processor: str


@dataclass(frozen=True)
class Exported:
    """An exported restorer with its measurements."""

    restorer: Restorer
    file: Path
    parity: Sequence[Parity]
    latency: Latency
    licence: str | None = None


@dataclass(frozen=True)
class ReportRows:
    """The rows of results.csv and verdicts.csv about a restorer, and those of clean and degraded images."""

    results: pd.DataFrame
    verdicts: pd.DataFrame


def read_report(run: CompletedRun) -> ReportRows:
    """The report's rows about the restorer of a run.

    Raises:
        CompletedRunError: the report has no row of this restorer.
    """
    report = run.folder("report")
    return ReportRows(_read_rows(report / "results.csv", run), _read_rows(report / "verdicts.csv", run))


def model_card(run: CompletedRun, rows: ReportRows, exported: Exported) -> str:
    """The model card as Markdown."""
    parts = [
        f"# Restorer `{run.objective}` for `{run.degradation}`",
        f"{_architecture(exported.restorer)}, {_count_weights(exported.restorer):,} weights, trained to undo "
        f"`{run.degradation}` on `{run.clean.info.name}`. Written by `python -m pipeline.commands.deploy` at commit "
        f"{git_commit() or 'unknown (no repository)'}.",
        "## Use",
        *_use(exported),
        "## Made of",
        table(["what", "value"], list(_origin(run, exported))),
        "## Scores",
        *_scores(run, rows.results),
        "## Gains and verdicts",
        *_verdicts(run, rows.verdicts),
        "## Harm on clean images",
        *_harm(run, rows.verdicts),
        "## The same as PyTorch",
        *_parity(exported.parity),
        "## Time",
        _time(exported.latency),
        "## Limits",
        "\n".join(f"- {line}" for line in _limits(run)),
        "## Licence",
        exported.licence or LICENCE,
    ]
    return "\n\n".join(parts) + "\n"


def _read_rows(path: Path, run: CompletedRun) -> pd.DataFrame:
    try:
        rows = pd.read_csv(path)
    except OSError as error:
        raise CompletedRunError(f"{path}: cannot be read ({error.strerror}). {ADVICE}") from error
    variants = [run.objective, f"{CLEAN_RESTORED}{run.objective}", CLEAN, DEGRADED]
    rows = rows[(rows.degradation == run.degradation) & rows.variant.isin(variants)]
    if run.objective not in set(rows.variant):
        raise CompletedRunError(f"{path}: has no row of {run.objective} on {run.degradation}. {ADVICE}")
    return rows


def _use(exported: Exported) -> Iterator[str]:
    yield (
        "Images are float32 (N, 3, H, W), RGB in [0, 1]; the result has the same shape and range. Any N, H and W: the "
        f"graph itself reflects images up to multiples of {exported.restorer.multiple} pixels and cuts the result back."
    )
    yield USE.format(name=exported.file.name)
    yield (
        "Folders and videos: `uv run python -m pipeline.commands.restore_files --restorer <this folder> "
        "--input photos --output restored`."
    )


def _architecture(restorer: Restorer) -> str:
    settings = ", ".join(f"{name} {json.dumps(value)}" for name, value in sorted(restorer.settings.items()))
    return f"`{restorer.name}` ({settings})"


def _count_weights(restorer: Restorer) -> int:
    return sum(parameter.numel() for parameter in restorer.parameters())


def _origin(run: CompletedRun, exported: Exported) -> Iterator[list[str]]:
    params, training = run.params, run.params.train_restorer.of(run.objective)
    for name, path in ((exported.file.name, exported.file), ("weights", run.weights)):
        yield [f"{name}, SHA-256", _file_digest(path)]
    yield ["weights from", str(run.weights)]
    yield ["started from", str(training.network["weights"]) if training.restorer == "checkpoint" else "random weights"]
    source = run.clean.info.source.get("source", "unknown")
    yield ["data", f"{run.clean.info.name} (source {source})"]
    for name, dataset in (("clean", run.clean), (run.degradation, run.degraded)):
        if "train" in dataset.info.splits:
            digest = data_digest(dataset.folder / "train")
            yield [f"training images, {name}", f"{dataset.info.splits['train']}, digest {digest}"]
    yield ["degradation", _one_line(params.degrade.only(run.degradation))]
    yield ["objective", f"{run.objective}: {_one_line(params.losses_of(run.objective))}"]
    yield ["training", _one_line(training.training)]
    yield ["seeds", f"seed {params.seed}, training {run.training} of {training.repeats}"]


def _one_line(settings: Any) -> str:
    return json.dumps(settings).replace('"', "").replace("|", "\\|")


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _scores(run: CompletedRun, results: pd.DataFrame) -> Iterator[str]:
    split, level = run.clean.evaluation_split, f"{100 * run.params.statistics.level:g} %"
    note = "" if split == "test" else ", which is no test split: these are validation images"
    yield f"On the split `{split}`{note}. Intervals: {level}, bootstrap over images."
    if run.params.train_restorer.repeats > 1:
        yield "Scores are means over all trainings of this restorer; this file is one of them."
    rows = [
        [row.task, row.metric, row.variant, f"{row.value:.4g}", _interval(row, ".4g"), row.n_images]
        for row in results[results.variant.isin([CLEAN, DEGRADED, run.objective])].itertuples()
    ]
    header = ["task", "metric", "images are", "value", "interval", "images"]
    yield table(header, [[str(cell) for cell in row] for row in rows])


def _verdicts(run: CompletedRun, verdicts: pd.DataFrame) -> Iterator[str]:
    yield _gain_table(verdicts[verdicts.variant == run.objective])
    yield (
        "*Helps* and *hurts*: the p-value, corrected for all comparisons of the run (Holm), is below "
        f"{1 - run.params.statistics.level:.2g}. *Doesn't help*: the interval ends below "
        f"{run.params.statistics.margin:g}. Image quality (`{QUALITY}`) has no verdict: recognition is what counts."
    )


def _harm(run: CompletedRun, verdicts: pd.DataFrame) -> Iterator[str]:
    arm = f"{CLEAN_RESTORED}{run.objective}"
    harm = verdicts[(verdicts.variant == arm) & (verdicts.versus == CLEAN)]
    if len(harm):
        yield _gain_table(harm)
    else:
        yield f"Not measured. Add `{arm}` to `arms` in params.yaml and run `uv run dvc repro`."


def _gain_table(rows: pd.DataFrame) -> str:
    return table(
        ["task", "metric", "against", "gain", "interval", "p (Holm)", "verdict"],
        [
            [
                *(row.task, row.metric, row.versus),
                f"{row.gain:+.4f}",
                _interval(row, "+.4f"),
                "" if math.isnan(row.p_holm) else f"{row.p_holm:.3f}",
                f"{row.verdict}: {row.reason}" if row.verdict == WITHHELD else row.verdict,
            ]
            for row in rows.itertuples()
        ],
    )


def _interval(row: Any, form: str) -> str:
    return "" if math.isnan(row.ci_low) else f"{row.ci_low:{form}} to {row.ci_high:{form}}"


def _parity(parity: Sequence[Parity]) -> Iterator[str]:
    largest = max(comparison.difference for comparison in parity)
    yield (
        f"Largest difference from PyTorch on degraded evaluation images: {largest:.1e} of the range [0, 1] "
        f"({TOLERANCE:g} is allowed)."
    )
    rows = [[f"{size.width}x{size.height}", str(size.images), f"{size.difference:.1e}"] for size in parity]
    yield table(["pixels", "images at once", "largest difference"], rows)


def _time(latency: Latency) -> str:
    return (
        f"One image of {latency.width}x{latency.height} pixels, {latency.threads} thread(s) on {latency.processor}, "
        f"medians of passes taken in turns: PyTorch {latency.torch_milliseconds:g} ms, "
        f"ONNX Runtime {latency.onnx_milliseconds:g} ms."
    )


def _limits(run: CompletedRun) -> Iterator[str]:
    drawn = run.degradation not in run.params.degrade.real
    yield (
        f"It was trained on `{run.degradation}` as {'drawn by this project' if drawn else 'photographed'}, in the "
        "severities above, on these data alone. Other weather, cameras, object sizes or severities were not measured."
    )
    yield "The scores belong to these task networks on these classes. Another detector can gain or lose."
    yield "It may harm images that are not degraded: measure that, or put a gate before it (docs/how-to/deployment.md)."
    if run.params.restore.tile is not None:
        yield (
            f"The scored images were restored in tiles of {run.params.restore.tile} pixels; the file restores images "
            "whole."
        )
    yield "It draws what is likely, which is no evidence: do not identify people or plates on restored images."
    if run.params.train_restorer.repeats == 1:
        yield "It was trained with one seed: the intervals do not cover another training."
