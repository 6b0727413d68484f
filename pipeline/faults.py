"""What to do with bad data: everything is found first, then listed in one table, then refused or left out."""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from data.manifest import DatasetError, Fault

COLUMNS = ("file", "fault", "action")
FAULTS_FILE = "faults.csv"
SHOWN = 20
CONVERTED, LEFT_OUT, REFUSED = "converted", "left out", "none: to be mended"


def refuse(faults: Sequence[Fault], table: Path, root: Path, advice: str) -> DatasetError:
    """Write the table, print its beginning and return the error to raise."""
    bad = [fault for fault in faults if not fault.converted]
    write_table(table, faults, REFUSED)
    for fault in bad[:SHOWN]:
        print(printable(f"{fault.file}: {fault.fault}"))
    if len(bad) > SHOWN:
        print(f"... and {len(bad) - SHOWN} more")
    return DatasetError(f"{root}: {len(bad)} faults ({kinds(bad)}), all listed in {table}; {advice}")


def write_table(path: Path, faults: Iterable[Fault], action: str) -> None:
    """Write the faults as a table; `action` is what was done about those that could not be put right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for fault in sorted(faults, key=lambda fault: (fault.file, fault.fault)):
            writer.writerow((fault.file, fault.fault, CONVERTED if fault.converted else action))


def printable(text: str) -> str:
    """One line that any terminal takes; names of files and entries of a JSON file can be any bytes."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())


def kinds(faults: Iterable[Fault]) -> str:
    """How many there are of each kind, the most frequent first."""
    counts = Counter(fault.fault.partition(":")[0] for fault in faults)
    return ", ".join(f"{count} x {kind}" for kind, count in counts.most_common())
