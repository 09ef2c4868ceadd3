"""See that a metric on which a run's course depends is one that the run will report."""

from gradloom.config.node import Node, children
from gradloom.errors import closest, suggest
from gradloom.plan.pieces import Pieces


def check_watched(pieces: Pieces) -> None:
    """Check what the best checkpoint and early stopping go by.

    What an evaluator reports is known only when it has measured: any name that begins with the evaluator's is taken.
    """
    evaluators = [name for name, _ in children(pieces.root.get("eval"), "evaluators")]
    losses = [f"{step}/{name}" for step, node in pieces.step_nodes.items() for name, _ in children(node, "losses")]
    totals = [f"{step}/total" for step, node in pieces.step_nodes.items() if children(node, "losses")]
    if pieces.sections.eval.pure:
        evaluators += [f"val/{name}" for name in (*losses, *totals)]
    if "eval" in pieces.sections.faulty:
        return
    if best := _metric(pieces.root, "checkpoints", "best"):
        _check(best, evaluators, [], "no evaluator reports", pieces)
    if early := _metric(pieces.root, "early_stopping"):
        _check(early, [*evaluators, *losses], totals, "no evaluator and no loss reports", pieces)


def _metric(root: Node, *path: str) -> Node | None:
    """The metric named in a section, if it is a word."""
    node: Node | None = root
    for key in (*path, "metric"):
        node = node.get(key) if node else None
    return node if node and isinstance(node.value, str) else None


def _check(node: Node, families: list[str], names: list[str], why: str, pieces: Pieces) -> None:
    metric = str(node.value)
    if metric in names or any(metric == family or metric.startswith(f"{family}/") for family in families):
        return
    known = [*names, *families]
    meant = closest(metric, known) or closest(metric.partition("/")[0], known)
    hint = f"did you mean {meant!r}?" if meant else suggest(metric, known)
    pieces.faults.append(node.fault(f"{why} {metric!r}; {hint if known else 'add one under eval.evaluators'}"))
