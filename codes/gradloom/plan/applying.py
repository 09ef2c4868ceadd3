"""What is written without training: a state key as images, made of every sample of some datasets."""

from gradloom.errors import Fault, suggest
from gradloom.plan.measures import pool, taken
from gradloom.plan.pieces import Pieces
from gradloom.plan.plan import Application, Dataset, Measure
from gradloom.plan.program import needed

RECURRENT = "recurrent"
"""The key under which a frame of a film comes with the output for the one before."""


def application(pieces: Pieces) -> Application | None:
    """Work out how `eval.output_state` is made of each dataset; None where there is no such option."""
    output = pieces.sections.eval.output_state
    if output is None:
        return None
    faults: list[Fault] = []
    passes = {phase: _pass(pieces, output, dataset, faults) for phase, dataset in pieces.datasets.items() if dataset}
    if not pieces.datasets and pieces.root.get("eval"):
        faults.append(pieces.root.fault("there is no dataset to take samples of; add datasets.test"))
    return Application(output, passes, tuple(dict.fromkeys(faults)))


def _pass(pieces: Pieces, output: str, dataset: Dataset, faults: list[Fault]) -> Measure:
    keys = dataset.keys
    if keys is not None and dataset.phase == "video" and pieces.sections.video.recurrent_mode:
        keys = (*keys, RECURRENT)
    calls = tuple(needed(pool(pieces), [output]))
    inputs = taken(pieces, calls, keys, faults)
    written = {key for call in pool(pieces) for key in call.writes}
    if output not in written and output in (keys or (output,)):
        inputs = (*inputs, output)
    elif output not in written and output not in pieces.assumed:
        place = pieces.root.fields["eval"].fields["output_state"]
        faults.append(place.fault(f"nothing writes {output!r}; {suggest(output, written | {*(keys or ())})}"))
    return Measure((), calls, inputs, None, None, dataset.phase)
