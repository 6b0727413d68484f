"""What the property tests share: how many examples, hostile values, mutated text, and what counts as refused well.

The examples are the same in every run. More of them: FUZZ_EXAMPLES=5000 pytest tests/test_properties_*.py
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

Value = TypeVar("Value")
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "100"))
few = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),  # of slow machines, and of fixtures that all examples share
)
TOKENS = [
    "",
    "0",
    "-1",
    "1e999",
    "nan",
    "1" * 400,
    "9" * 4400,
    "\0",
    "\ud800",
    "é",
    "\u2028",
    '"',
    "'",
    "<",
    "&",
    "[",
    "{",
    "]",
    "}",
]
TOKENS += [
    ",",
    ":",
    ": ",
    "\n",
    "\r",
    "\t",
    "- ",
    "!!int x",
    "*a",
    "&a",
    "null",
    "true",
    "../..",
    "/",
    "x" * 300,
    "[" * 2000,
    "1_0",
    "²",
]
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.sampled_from([10**400, -(2**63), 2**64, float("nan"), float("inf"), -0.0, 0.5, 1e-9]),
    st.text(max_size=8),
    st.sampled_from(TOKENS),
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)


def mutated(text: str) -> st.SearchStrategy[str]:
    """The text with a few pieces replaced."""
    edit = st.tuples(st.integers(0, len(text)), st.integers(0, 12), st.sampled_from(TOKENS) | st.text(max_size=5))
    return st.lists(edit, min_size=1, max_size=4).map(lambda edits: _apply(text, edits))


def grafted(tree: Any) -> st.SearchStrategy[Any]:
    """The tree of lists and mappings with one part replaced by anything, removed, or called something else."""
    return st.tuples(
        st.sampled_from(list(_places(tree))), anything, st.sampled_from(["replace", "remove", "rename"])
    ).map(lambda drawn: _graft(tree, *drawn))


def refused_well(call: Callable[[], Value], *kinds: type[Exception]) -> Value | None:
    """What the call gives, or None where it raised one of these with a text of one line. All else is a fault."""
    try:
        return call()
    except kinds as error:
        text = str(error)
        assert text and "\n" not in text and "\r" not in text, repr(text)
        return None


def to_bytes(text: str) -> bytes:
    """As UTF-8; half characters stay what they are, which is no UTF-8."""
    return text.encode("utf-8", "surrogatepass")


def _apply(text: str, edits: list[tuple[int, int, str]]) -> str:
    for place, length, new in edits:
        text = text[:place] + new + text[place + length :]
    return text


def _places(tree: Any, path: tuple[Any, ...] = ()) -> Any:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from _places(value, (*path, key))


def _graft(tree: Any, path: tuple[Any, ...], value: Any, how: str) -> Any:
    key, *rest = path
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    if rest:
        copy[key] = _graft(tree[key], tuple(rest), value, how)
    elif how == "replace":
        copy[key] = value
    else:
        removed = copy.pop(key)
        if how == "rename" and isinstance(copy, dict):
            copy[str(value)] = removed
    return copy
