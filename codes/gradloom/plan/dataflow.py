"""Follow the state keys through a plan: who writes each, who reads it, and when."""

from collections.abc import Container, Iterable, Mapping, Sequence

from gradloom.errors import Fault, suggest
from gradloom.gates import Gate
from gradloom.parts import Injector, Part, Port
from gradloom.plan.plan import Call, Step
from gradloom.plan.program import training

Writers = dict[str, Call[Part] | None]  # a key that comes with the batch has no writer


def check(
    steps: Sequence[Step],
    given: Iterable[str] | None,
    assumed: Container[str] = (),
    visuals: Iterable[str] = (),
) -> tuple[list[Fault], Writers]:
    """Find keys read before they are written, written twice, or read at iterations that do not write them.

    Where it is not known what a batch holds (`given` is None), a key that nothing writes comes with it. Keys
    in `assumed` are written by parts with faults of their own; those in `visuals` are read whenever they are written.
    """
    faults: list[Fault] = []
    writers: Writers = dict.fromkeys(given or ())
    eventually = {key: call for step in steps for call in step.injectors for key in call.writes}
    kept: dict[str, Step] = {}  # by keys that a step does not let others have
    for step in steps:
        injectors = [call for call in step.injectors if training(call)]
        for call in (*injectors, *step.losses):
            for key in call.reads:
                if key not in writers and given is None and key not in eventually:
                    writers[key] = None
                elif key in kept:
                    who = f"steps.{kept[key].name}"
                    faults.append(call.fault(f"reads {key!r}, which {who} keeps; add it to its 'step_outputs'", key))
                elif key not in writers and key not in assumed:
                    faults.append(unwritten(call, key, writers, eventually))
            for key in call.writes:
                if key in writers:
                    source = writers[key]
                    by = f"by {source.path} ({_place(source, call)})" if source else "by the dataset"
                    place = call.place(key, Port.WRITE)
                    faults.append(place.fault(f"writes {key!r}, already written {by}; choose another name"))
                else:
                    writers[key] = call
        kept |= {key: step for call in injectors for key in call.writes if not step.shows(key)}
    walked: set[tuple[int, Gate]] = set()
    for step in steps:
        faults += never(step)
        for loss in step.losses:
            faults += _uncovered(loss, loss.gate & step.gate, writers, walked)
    for writer in filter(None, map(writers.get, visuals)):
        faults += _uncovered(writer, writer.gate, writers, walked)
    return faults, writers


def never(step: Step) -> Iterable[Fault]:
    """Say what takes part in no iteration at all."""
    why = "takes part in no iteration ({}); 'before' is the last one"
    if step.gate.first is None:
        yield step.node.fault(why.format(step.gate))
        return
    gates = [(call, call.gate) for call in step.injectors] + [(loss, loss.gate & step.gate) for loss in step.losses]
    for call, gate in gates:
        if gate.first is None:
            yield call.fault(why.format(gate))


def unwritten(call: Call[Part], key: str, known: Iterable[str], eventually: Mapping[str, Call[Injector]]) -> Fault:
    """Say that nothing before a call writes what it reads."""
    if later := eventually.get(key):
        where = f"{later.path} ({_place(later, call)})"
        only = "eval" if later.part.eval_ else "train" if later.part.train_ else ""
        if only:
            return call.fault(f"reads {key!r}, which {where} does not write here; remove its '{only}: true'", key)
        return call.fault(f"reads {key!r} before {where} writes it; change their order", key)
    return call.fault(f"reads {key!r}, which nothing before it writes; {suggest(key, known)}", key)


def _place(call: Call[Part], reader: Call[Part]) -> str:
    return call.node.mark.seen_from(reader.node.mark)


def _uncovered(reader: Call[Part], gate: Gate, writers: Writers, walked: set[tuple[int, Gate]]) -> Iterable[Fault]:
    """Check that all that a reader needs, at first or second hand, is written whenever the gate is open.

    What was `walked` for another reader with the same gate is not gone through again.
    """
    pending, seen = [reader], set[int]()
    while pending:
        reader = pending.pop()
        further = []
        for key in reader.reads:
            writer = writers.get(key)
            if writer is None or id(writer) in seen:
                continue
            seen.add(id(writer))
            if not writer.gate.covers(gate):
                yield reader.fault(
                    f"reads {key!r} ({gate}), which {writer.path} does not write in all these iterations "
                    f"({writer.gate}; {_place(writer, reader)}); give them the same gates",
                    key,
                )
            if (id(writer), gate) not in walked:
                walked.add((id(writer), gate))
                further.append(writer)
        pending += reversed(further)


def reached(step: Step, writers: Writers) -> set[str]:
    """The networks through which the gradient of a step's losses flows."""
    found: set[str] = set()
    pending: list[Call[Part]] = list(step.losses)
    own = {id(call) for call in step.injectors}
    seen: set[int] = set()
    while pending:
        call = pending.pop()
        found |= set(call.networks)
        for key in call.reads:
            writer = writers.get(key)
            if writer is None or id(writer) not in own or id(writer) in seen:
                continue
            seen.add(id(writer))
            if isinstance(writer.part, Injector) and writer.part.grad and not writer.part.no_grad:
                pending.append(writer)
    return found


def unread(steps: Sequence[Step], wanted: Iterable[str]) -> Iterable[Fault]:
    """Injectors that nothing needs, which are therefore left out."""
    keys = set(wanted)
    for step in reversed(steps):
        for loss in step.losses:
            keys |= set(loss.reads)
        for call in reversed(step.injectors):
            if keys & set(call.writes):
                keys |= set(call.reads)
            else:
                names = ", ".join(map(repr, call.writes))
                yield call.fault(f"nothing reads {names}, so it is left out")
