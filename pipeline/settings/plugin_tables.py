"""The tables of plug-ins, read without importing anything.

A table is a plain dictionary of a name to ".module:attribute". A stage does not depend on the tables: it depends on the
plug-ins that it uses, so that adding one re-runs nothing.
"""

import ast
from pathlib import Path

PROJECT = Path(__file__).parents[2]
# The package whose __init__.py holds a table, and the table's name.
PLUGIN_TABLES = {
    "sources": ("data.sources", "SOURCES"),
    "effects": ("data.degradations", "EFFECTS"),
    "restorers": ("models.restorers", "RESTORERS"),
    "losses": ("models.losses", "LOSSES"),
    "tasks": ("models.tasks", "TASKS"),
    "metrics": ("pipeline.metrics", "METRICS"),
}


def plugin_modules(kind: str, root: Path = PROJECT) -> dict[str, str]:
    """The modules of the plug-ins in a table, by name.

    Args:
        kind: a key of PLUGIN_TABLES.
        root: the project's folder.
    """
    package, table = PLUGIN_TABLES[kind]
    tree = ast.parse(root.joinpath(*package.split("."), "__init__.py").read_text(encoding="utf-8"))
    entries: dict[str, str] = next(ast.literal_eval(value) for node in tree.body if (value := assigned(node, table)))
    return {name: package + entry.partition(":")[0] for name, entry in entries.items()}


def assigned(node: ast.stmt, name: str) -> ast.expr | None:
    """The expression that a statement assigns to a name; None if it does something else."""
    if not isinstance(node, ast.Assign | ast.AnnAssign):
        return None
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return node.value if any(isinstance(target, ast.Name) and target.id == name for target in targets) else None
