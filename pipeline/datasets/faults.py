"""Faulty files of a data source: their table faults.csv, and the one-line error that refuses them."""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from data.labels import DatasetError
from data.samples import Fault

FAULTS_FILE = "faults.csv"
COLUMNS = ("file", "fault", "action")
CONVERTED, LEFT_OUT, REFUSED = "converted", "left out", "none: repair the file"
SHOWN = 20


def refuse(faults: Sequence[Fault], table: Path, root: Path, advice: str) -> DatasetError:
    """Write the table, print its beginning and return the error to raise."""
    bad = [fault for fault in faults if not fault.converted]
    write_table(table, faults, REFUSED)
    for fault in bad[:SHOWN]:
        print(_printable(f"{fault.file}: {fault.fault}"))
    if len(bad) > SHOWN:
        print(f"... and {len(bad) - SHOWN} more")
    return DatasetError(f"{root}: {len(bad)} faults ({count_kinds(bad)}), all listed in {table}; {advice}")


def write_table(path: Path, faults: Iterable[Fault], action: str) -> None:
    """Write the faults as a table; `action` is what was done about those that were not converted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for fault in sorted(faults, key=lambda fault: (fault.file, fault.fault)):
            writer.writerow((fault.file, fault.fault, CONVERTED if fault.converted else action))


def summarise(faults: Sequence[Fault], table: Path) -> str:
    """Lines for the terminal: how many files were converted and left out, and where they are listed."""
    lines = []
    for action, is_converted in ((CONVERTED, True), (LEFT_OUT, False)):
        chosen = [fault for fault in faults if fault.converted == is_converted]
        if chosen:
            lines.append(f"prepare: {action}: {count_kinds(chosen)}")
    return "\n".join([*lines, f"prepare: all of them are in {table}"])


def count_kinds(faults: Iterable[Fault]) -> str:
    """How many faults there are of each kind, the most frequent first."""
    counts = Counter(fault.fault.partition(":")[0] for fault in faults)
    return ", ".join(f"{count} x {kind}" for kind, count in counts.most_common())


def _printable(text: str) -> str:
    """One line that any terminal takes; names of files and entries of a JSON file can be any bytes."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())
