"""Which stages there are, what they wait for, and which are ready: DVC's own graph. Not a stage."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dvc.repo import Repo

Upstream = Mapping[str, frozenset[str]]  # stage -> the stages whose outputs it reads itself, in an order that works


class ParallelError(RuntimeError):
    """The stages cannot be run, or one of them failed; the text says why and what to do."""


def read_stages() -> tuple[Upstream, frozenset[str]]:
    """All stages of dvc.yaml, matrices unfolded, with what they wait for; and those that DVC finds changed.

    Raises:
        ParallelError: this is no DVC project, dvc.yaml or params.yaml are wrong, or another DVC runs stages.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        with Repo(_wait_for_lock=True) as repo:
            return _upstream(repo), frozenset(repo.status())
    except LockError as error:
        raise ParallelError(f"another DVC process is at work here, wait or end it: {_one_line(error)}") from error
    except DvcException as error:
        raise ParallelError(f"dvc.yaml: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _upstream(repo: "Repo") -> Upstream:
    from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

    graph = get_active_graph(repo.index.graph)
    order = plan_repro(graph, collect_stages(repo, ["dvc.yaml"]))
    return {stage.addressing: frozenset(other.addressing for other in graph.successors(stage)) for stage in order}


def closing_stages(upstream: Upstream) -> list[str]:
    """The stages at the end that all others come before: nothing can run beside one of them."""
    ancestors: dict[str, frozenset[str]] = {}
    for stage, direct in upstream.items():
        ancestors[stage] = direct.union(*(ancestors[other] for other in direct))
    order = list(upstream)
    last: list[str] = []
    while order and len(ancestors[order[-1]]) == len(order) - 1:
        last.insert(0, order.pop())
    return last


class Schedule:
    """Which stage may start next.

    A stage that DVC finds unchanged, behind stages of which none has run, is passed over: asking DVC once more costs
    seconds. All other stages are left to DVC, which skips what turns out to be up to date.

    Args:
        upstream: stage -> the stages that it waits for, in an order that works.
        changed: the stages that DVC finds changed before anything runs.
        closing: stages that are left out.
    """

    def __init__(self, upstream: Upstream, changed: Iterable[str], closing: Iterable[str] = ()) -> None:
        self._upstream = {stage: upstream[stage] for stage in upstream if stage not in set(closing)}
        self._changed = frozenset(changed)
        self._waiting = list(self._upstream)
        self._done: set[str] = set()
        self._run: set[str] = set()

    @property
    def total(self) -> int:
        """How many stages there are."""
        return len(self._upstream)

    @property
    def done(self) -> int:
        """How many of them are done or up to date."""
        return len(self._done)

    def next(self) -> str | None:
        """A stage to be started now; None where all that are left wait for others."""
        for stage in list(self._waiting):
            if self._upstream[stage] <= self._done:
                self._waiting.remove(stage)
                if stage in self._changed or self._upstream[stage] & self._run:
                    return stage
                self._done.add(stage)
        return None

    def finish(self, stage: str) -> None:
        """Say that a stage that was started has ended well."""
        self._done.add(stage)
        self._run.add(stage)
