"""The CSV files of a report as tables for people. Every number in them is the text of a CSV file, rounded."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from pipeline.metrics import find_metric
from pipeline.reporting.document import Cell, Table
from pipeline.settings.grammar import CLEAN, DEGRADED, FROZEN
from pipeline.statistics.verdicts import UNKNOWN, WITHHELD

MOST_ROWS = 2000  # of a table on a page; the CSV file has all of them
MOST_CLASSES = 12  # of a task and degradation in the overview
KEYS = ("task", "degradation", "metric", "variant", "versus")  # of a gain
PLAIN_ENDS = ("ci_low", "ci_high")  # of the interval of the first of these columns that a table has:
ESTIMATES = ("value", "gain", "spearman")
P_VALUES = ("p_value", "p_holm")
SMALLEST_P_VALUE = 0.001
NUMBER = re.compile(r"-?(\d+\.?\d*(e[-+]?\d+)?|inf)")

Row = Mapping[str, str]
Texts = Mapping[str, pd.DataFrame]  # every cell is the text in the CSV file


def read_texts(report: Path) -> dict[str, pd.DataFrame]:
    """Every CSV file of a report folder by its name, all cells as the text that stands there."""
    return {path.stem: pd.read_csv(path, dtype=str, keep_default_na=False) for path in sorted(report.glob("*.csv"))}


def score_tables(texts: Texts) -> list[Table]:
    """For each task and metric: every variant's score, its gain over the degraded images and what it recovered."""
    gains, verdicts = texts["gains"], _by_key(texts["verdicts"])
    over_degraded = _by_key(gains[gains.versus == DEGRADED])
    tables = []
    for (task, metric), results in texts["results"].groupby(["task", "metric"], sort=False):
        rows = []
        for row in results.to_dict("records"):
            key = (task, row["degradation"], metric, row["variant"], DEGRADED)
            gain, verdict = over_degraded.get(key, {}), verdicts.get(key, {})
            rows.append(
                [
                    Cell(row["degradation"]),
                    Cell(row["variant"]),
                    _cell(row, "value", metric, _ends(row, "value")),
                    _cell(gain, "gain", metric, _ends(gain, "gain")),
                    _p_value(gain, "p_value"),
                    _p_value(verdict, "p_holm"),
                    _verdict(verdict),
                    Cell("") if row["variant"] == CLEAN else _cell(gain, "recovered", ends=_ends(gain, "recovered")),
                ]
            )
        unit = find_metric(metric).unit
        score = f"{metric} ({unit})" if unit else metric
        header = ["degradation", "variant", score, "gain over degraded", "p", "p (Holm)", "verdict", "recovered"]
        images, groups = (" or ".join(results[name].unique()) for name in ("n_images", "n_groups"))
        caption = f"{task}: {metric}, {images} images{f' in {groups} groups' if groups != images else ''}"
        tables.append(_without_empty_columns(Table("results", caption, header, rows)))
    return tables


def baseline_table(texts: Texts, caption: str, gains: pd.DataFrame) -> Table | None:
    """Gains over other baselines than the degraded images; None if there are none.

    Args:
        texts: every CSV file.
        caption: of the table.
        gains: the rows of gains.csv that it shows, those over the degraded images excepted.
    """
    verdicts = _by_key(texts["verdicts"])
    rows = []
    for row in gains[gains.versus != DEGRADED].to_dict("records"):
        verdict = verdicts.get(tuple(row[name] for name in KEYS), {})
        rows.append(
            [
                *(Cell(row[name]) for name in KEYS),
                _cell(row, "gain", row["metric"], _ends(row, "gain")),
                _p_value(row, "p_value"),
                _p_value(verdict, "p_holm"),
                _verdict(verdict),
                Cell(row["reason"]),
            ]
        )
    header = ["task", "degradation", "metric", "variant", "baseline", "gain", "p", "p (Holm)", "verdict", "reason"]
    if len({row[-1].text for row in rows}) == 1:  # one reason for all rows is not said in each of them
        header, rows = header[:-1], [row[:-1] for row in rows]
    return _without_empty_columns(Table("gains", caption, header, rows, cards=True)) if rows else None


def planning_tables(planning: pd.DataFrame) -> list[Table]:
    """For each task and degradation: how many groups and trainings show a gain of the margin."""
    columns = ["variant", "versus", "se_groups", "se_trainings", "n_groups", "n_trainings"]
    needed = ["groups_needed", "trainings_needed"]
    header = [column.replace("_", " ").replace("se ", "SE between ") for column in (*columns, *needed)]
    tables = []
    for (task, degradation), part in planning.groupby(["task", "degradation"], sort=False):
        rows = [
            [
                *(Cell(row[column]) for column in columns[:2]),
                *(_cell(row, column, row["metric"]) for column in columns[2:4]),
                *(Cell(row[column], row[column]) for column in columns[4:]),
                *(_whole(row[column]) for column in needed),
            ]
            for row in part.to_dict("records")
        ]
        caption = f"{task}, {degradation}: {part.metric.iloc[0]}"
        tables.append(_without_empty_columns(Table("planning", caption, header, rows)))
    return tables


def severity_overview(severities: pd.DataFrame) -> Table | None:
    """The score of every variant at each severity, in one column for each; None if there are not several."""
    levels = sorted((text for text in severities.severity.unique() if text), key=float)
    if len(levels) < 2:
        return None
    keys = ["task", "degradation", "metric", "variant"]
    rows = []
    for key, group in severities[severities.severity != ""].groupby(keys, sort=False):
        by_severity = {row["severity"]: row for row in group.to_dict("records")}
        cells = [_cell(by_severity.get(level, {}), "value", key[2]) for level in levels]
        rows.append([*(Cell(name) for name in key), *cells])
    header = [*keys, *(f"{float(level):g}" for level in levels)]
    return Table("severities", "Scores by severity", header, rows)


def class_overview(classes: pd.DataFrame) -> Table | None:
    """For each class: its score on degraded images and every variant's gain; the classes that changed most."""
    return _gain_overview(classes, "classes", "class")


def size_overview(sizes: pd.DataFrame) -> Table | None:
    """For each size of objects: the score on degraded images and every variant's gain."""
    return _gain_overview(sizes, "sizes", "size")


def _gain_overview(table: pd.DataFrame, name: str, part: str) -> Table | None:
    """One row for each class or size and metric, one column for each variant; None for tables without gains."""
    if not {"degradation", "variant", "gain", "n_objects"}.issubset(table.columns):
        return None
    variants = [name for name in dict.fromkeys(table.variant) if name != DEGRADED]
    rows = []
    for (task, degradation), cell in table.groupby(["task", "degradation"], sort=False):
        for label in _most_changed(cell, part):
            for metric, group in cell[cell[part] == label].groupby("metric", sort=False):
                by_variant = {row["variant"]: row for row in group.to_dict("records")}
                objects = group.n_objects.iloc[0]
                score = by_variant.get(DEGRADED, {})
                gains = [by_variant.get(variant, {}) for variant in variants]
                rows.append(
                    [
                        *(Cell(text) for text in (task, degradation, label)),
                        Cell(f"{float(objects):.0f}" if objects else "", objects),
                        Cell(metric),
                        _cell(score, "value", metric),
                        *(_cell(gain, "gain", metric, _ends(gain, "gain")) for gain in gains),
                    ]
                )
    header = ["task", "degradation", part, "objects", "metric", DEGRADED, *variants]
    return _without_empty_columns(Table(name, f"Gains by {part}", header, rows)) if rows else None


def _most_changed(cell: pd.DataFrame, part: str) -> list[str]:
    """The classes or sizes of one task and degradation whose scores changed most by any variant, in their order."""
    names = list(dict.fromkeys(cell[part]))
    changes = pd.to_numeric(cell[cell.variant != CLEAN].gain, errors="coerce").abs()
    largest = changes.groupby(cell[part]).max().sort_values(ascending=False, kind="stable")
    chosen = set(largest.index[:MOST_CLASSES])
    return [name for name in names if name in chosen]


def complete_table(name: str, caption: str, table: pd.DataFrame, counts: bool = False) -> Table:
    """A table with the columns of its file; the ends of an interval stand with their number.

    Args:
        name: of the file, without its ending.
        caption: what it shows.
        table: its texts.
        counts: its numbers with intervals are counts.
    """
    ends = {column: pair for column in table.columns if (pair := _end_columns(column, table.columns))}
    hidden = {end for pair in ends.values() for end in pair}
    columns = [column for column in table.columns if column not in hidden]
    whole = {column for column in columns if column not in ends and table[column].str.fullmatch(r"\d*").all()}
    rows = []
    for row in table.head(MOST_ROWS).to_dict("records"):
        cells = []
        for column in columns:
            if not NUMBER.fullmatch(row[column]):
                cells.append(Cell(row[column]))
            elif column in whole:
                cells.append(Cell(row[column], row[column]))
            elif column in P_VALUES:
                cells.append(_p_value(row, column))
            elif counts:
                cells.append(_count(row, column, ends.get(column)))
            else:
                cells.append(_cell(row, column, row.get("metric", ""), ends.get(column)))
        rows.append(cells)
    header = [column.replace("_", " ") for column in columns]
    return _without_empty_columns(Table(name, caption, header, rows, complete=True))


def shown(text: str, metric: str = "", gain: bool = False) -> str:
    """A number of a CSV file as a table shows it.

    A value has the digits of its metric. A gain has a sign, and one digit more if the metric is a share.
    """
    declared = find_metric(metric)
    digits = declared.digits + (1 if gain and not declared.unit else 0)
    return f"{float(text):{'+' if gain else ''}.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _cell(row: Row, column: str, metric: str = "", ends: tuple[str, str] | None = None) -> Cell:
    text = row.get(column, "")
    if not text:
        return Cell("")
    gain = column.startswith("gain")
    interval = " to ".join(shown(row[end], metric, gain) for end in ends) if ends and row[ends[0]] else ""
    return Cell(shown(text, metric, gain), text, interval)


def _count(row: Row, column: str, ends: tuple[str, str] | None) -> Cell:
    """A count, which is a mean over trainings and may have a fraction."""
    text = row[column]
    interval = f"{float(row[ends[0]]):.0f} to {float(row[ends[1]]):.0f}" if ends and row[ends[0]] else ""
    return Cell(f"{float(text):g}", text, interval)


def _p_value(row: Row, column: str) -> Cell:
    text = row.get(column, "")
    if not text:
        return Cell("")
    return Cell(f"< {SMALLEST_P_VALUE}" if float(text) < SMALLEST_P_VALUE else shown(text), text)


def _verdict(row: Row) -> Cell:
    """A verdict; after one training it holds for this training."""
    verdict = row.get("verdict", "")
    has_verdict = verdict not in ("", UNKNOWN, WITHHELD) and row["variant"] != FROZEN
    this = has_verdict and row["n_trainings"] == "1"
    return Cell(f"{verdict} (this training)" if this else verdict)


def _whole(text: str) -> Cell:
    return Cell(f"{float(text):,.0f}" if text else "", text)


def _ends(row: Row, column: str) -> tuple[str, str] | None:
    return _end_columns(column, row)


def _end_columns(column: str, columns: Iterable[str]) -> tuple[str, str] | None:
    """The columns with the ends of the interval of a column's numbers."""
    existing = set(columns)
    ends = (f"{column}_low", f"{column}_high")
    if existing.issuperset(ends):
        return ends
    estimate = next((name for name in ESTIMATES if name in existing), None)
    return PLAIN_ENDS if column == estimate and existing.issuperset(PLAIN_ENDS) else None


def _by_key(table: pd.DataFrame) -> dict[tuple[str, ...], dict[str, str]]:
    return {tuple(row[name] for name in KEYS): row for row in table.to_dict("records")}


def _without_empty_columns(table: Table) -> Table:
    kept = [place for place in range(len(table.header)) if any(row[place].text for row in table.rows)]
    header = [table.header[place] for place in kept]
    rows = [[row[place] for place in kept] for row in table.rows]
    return replace(table, header=header, rows=rows)
