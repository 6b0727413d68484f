"""The CSV tables of a report as tables for people: every number in them is the text of a CSV file. Not a stage."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from pipeline.metrics import find_metric
from pipeline.reporting.tables import QUALITY
from pipeline.settings.grammar import CLEAN
from pipeline.settings.grammar import DEGRADED

KEYS = ("task", "degradation", "metric", "variant", "versus")  # of a gain
MOST_ROWS = 2000  # of a table on the page; the CSV file has all of them
TITLES = {
    "severities": "By severity",
    "robustness": "Over all degradations",
    "classes": "By class",
    "sizes": "By object size",
    "objects": "Objects invented, lost and found again",
    "correlations": "Do quality metrics predict task gain?",
    "costs": "Costs on this machine",
}
NOTES = {
    "severities": "Gains are over the degraded images of the same severity.",
    "robustness": "mPC: mean over the degradations, and their severities, of the same clean images; rPC = mPC / clean.",
    "classes": "Gains are over the degraded images.",
    "sizes": "COCO's sizes: small below 32² pixels, medium below 96². Gains are over the degraded images.",
    "objects": "Invented: false boxes that neither the degraded nor the clean image has. Cleared: false boxes of the "
    "degraded image that are gone. Lost: objects that were found in the degraded image and are missed in the restored "
    "one. Found again: the other way round.",
    "correlations": "Spearman's rank correlation of a quality metric's gain with a task metric's gain.",
    "costs": "Measured where the stages ran: other machines give other times.",
}
PLAIN_ENDS = ("ci_low", "ci_high")  # of the interval of the first of these columns that a table has:
OWNERS = ("value", "gain", "spearman")
NUMBER = re.compile(r"-?(\d+\.?\d*(e[-+]?\d+)?|inf)")


@dataclass(frozen=True)
class Entry:
    """One cell of a table: `text` as shown; `exact` what the CSV file says, empty for words."""

    text: str
    exact: str = ""
    interval: str = ""


@dataclass(frozen=True)
class Table:
    """A table with its caption; `rows` has as many entries as `header`."""

    name: str
    caption: str
    header: list[str]
    rows: list[list[Entry]]
    notes: list[str] = field(default_factory=list)

    def numeric(self, column: int) -> bool:
        """Whether a column has numbers."""
        return any(row[column].exact for row in self.rows)


def read_tables(report: Path) -> dict[str, pd.DataFrame]:
    """Every CSV file of a report folder by its name, all cells as the text that stands there."""
    return {path.stem: pd.read_csv(path, dtype=str, keep_default_na=False) for path in sorted(report.glob("*.csv"))}


def ledger(tables: Mapping[str, pd.DataFrame]) -> Iterator[Table]:
    """For each task and metric: every arm with its score, its gain over the degraded images and what it recovered."""
    results, gains = tables["results"], tables["gains"]
    over_degraded, judged = _by_row(gains[gains.versus == DEGRADED]), _by_row(tables["verdicts"])
    for (task, metric), rows in results.groupby(["task", "metric"], sort=False):
        shown = []
        for row in rows.to_dict("records"):
            key = (task, row["degradation"], metric, row["variant"], DEGRADED)
            gain, judgement = over_degraded.get(key, {}), judged.get(key, {})
            shown.append(
                [
                    Entry(row["degradation"]),
                    Entry(row["variant"]),
                    _entry(row, "value", metric),
                    _entry(gain, "gain", metric, signed=True),
                    _p_value(gain, "p_value"),
                    _p_value(judgement, "p_holm"),
                    Entry(judgement.get("verdict", "")),
                    _entry({} if row["variant"] == CLEAN else gain, "recovered", ""),
                ]
            )
        header = ["degradation", "arm", metric, "gain over degraded", "p", "p (Holm)", "verdict", "recovered"]
        yield _without_empty(
            Table("results", f"{task}: {metric}, {' or '.join(rows.n_images.unique())} images", header, shown)
        )


def comparisons(tables: Mapping[str, pd.DataFrame]) -> Table | None:
    """All gains over something else than the degraded images."""
    gains, judged = tables["gains"], _by_row(tables["verdicts"])
    rows = [
        [
            *(Entry(row[name]) for name in KEYS),
            _entry(row, "gain", row["metric"], signed=True),
            _p_value(row, "p_value"),
            _p_value(judgement := judged.get(tuple(row[name] for name in KEYS), {}), "p_holm"),
            Entry(judgement.get("verdict", "")),
        ]
        for row in gains[gains.versus != DEGRADED].to_dict("records")
    ]
    header = ["task", "degradation", "metric", "arm", "versus", "gain", "p", "p (Holm)", "verdict"]
    return Table("gains", "Arms against each other", header, rows) if rows else None


def other_tables(tables: Mapping[str, pd.DataFrame]) -> Iterator[Table]:
    """The tables that stand as they are, where there are any."""
    for name, title in TITLES.items():
        table = tables.get(name)
        if table is None or table.empty or (name == "severities" and table.severity.nunique() < 2):
            continue
        kept = table.head(MOST_ROWS)
        notes = [NOTES[name]]
        if len(kept) < len(table):
            notes.append(f"The first {len(kept)} of {len(table)} rows; {name}.csv has them all.")
        yield plain_table(name, title, kept, notes)


def plain_table(name: str, title: str, table: pd.DataFrame, notes: Iterable[str] = ()) -> Table:
    """A table with the columns of its file; the ends of intervals stand with their numbers."""
    ends = {column: pair for column in table.columns if (pair := _ends(column, table.columns))}
    hidden = {end for pair in ends.values() for end in pair}
    columns = [column for column in table.columns if column not in hidden]
    counts = {column for column in columns if column not in ends and table[column].str.fullmatch(r"\d*").all()}
    rows = [
        [_plain(row, column, ends.get(column), column in counts) for column in columns]
        for row in table.to_dict("records")
    ]
    return _without_empty(Table(name, title, [column.replace("_", " ") for column in columns], rows, list(notes)))


def shown(text: str, metric: str = "", signed: bool = False) -> str:
    """A number of a CSV file as the page shows it: decibels with two decimals, others with three, gains with four."""
    value = float(text)
    digits = find_metric(metric).gain_digits if signed else find_metric(metric).digits
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "\N{MINUS SIGN}")


def of_tasks(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that are not about image quality."""
    return table[table.task != QUALITY]


def _entry(row: Mapping[str, str], name: str, metric: str, signed: bool = False) -> Entry:
    text = row.get(name, "")
    if not text:
        return Entry("")
    low, high = row.get("ci_low", ""), row.get("ci_high", "")
    interval = f"{shown(low, metric, signed)} to {shown(high, metric, signed)}" if low and name != "recovered" else ""
    return Entry(shown(text, metric, signed), text, interval)


def _by_row(table: pd.DataFrame) -> dict[tuple[str, ...], dict[str, str]]:
    return {tuple(row[name] for name in KEYS): row for row in table.to_dict("records")}


def _p_value(row: Mapping[str, str], column: str) -> Entry:
    text = row.get(column, "")
    if not text:
        return Entry("")
    return Entry("< 0.001" if float(text) < 0.001 else shown(text), text)


def _ends(column: str, columns: Iterable[str]) -> tuple[str, str] | None:
    """The columns that hold the ends of the interval of a column's numbers."""
    there = set(columns)
    own = (f"{column}_low", f"{column}_high")
    if there.issuperset(own):
        return own
    owner = next((name for name in OWNERS if name in there), None)
    return PLAIN_ENDS if column == owner and there.issuperset(PLAIN_ENDS) else None


def _plain(row: Mapping[str, str], column: str, ends: tuple[str, str] | None, count: bool) -> Entry:
    text = row[column]
    if not NUMBER.fullmatch(text):
        return Entry(text)
    metric, signed = row.get("metric", ""), column == "gain"
    word = text if count else shown(text, metric, signed)
    if ends is None or not row[ends[0]]:
        return Entry(word, text)
    return Entry(word, text, " to ".join(shown(row[end], metric, signed) for end in ends))


def _without_empty(table: Table) -> Table:
    """Without the columns in which nothing stands."""
    kept = [place for place in range(len(table.header)) if any(row[place].text for row in table.rows)]
    rows = [[row[place] for place in kept] for row in table.rows]
    return replace(table, header=[table.header[place] for place in kept], rows=rows)
