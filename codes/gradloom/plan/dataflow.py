"""Follow the state keys through a plan: who writes each, who reads it, and when."""

from collections.abc import Container, Iterable, Mapping, Sequence

from gradloom.errors import Fault, suggest
from gradloom.gates import Gate
from gradloom.parts import Injector, Part, Port
from gradloom.plan.plan import Call, Step
from gradloom.plan.program import training

Writers = dict[str, tuple[Call[Part], ...]]  # several take turns; a key that comes with the batch has none


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
    writers: Writers = dict.fromkeys(given or (), ())
    read: set[str] = set()  # so far
    eventually = {key: call for step in steps for call in step.injectors for key in call.writes}
    kept: dict[str, Step] = {}  # by keys that a step does not let others have
    for step in steps:
        injectors = [call for call in step.injectors if training(call)]
        for call in (*injectors, *step.losses):
            for key in call.reads:
                read.add(key)
                if key not in writers and given is None and key not in eventually:
                    writers[key] = ()
                elif key in kept:
                    who = f"steps.{kept[key].name}"
                    faults.append(call.fault(f"reads {key!r}, which {who} keeps; add it to its 'step_outputs'", key))
                elif key not in writers and key not in assumed:
                    faults.append(unwritten(call, key, writers, eventually))
            for key in call.writes:
                before = writers.get(key, ())
                if key not in writers or (before and key not in read and _takes_turns(call, before, step)):
                    writers[key] = (*before, call)
                else:
                    by = f"by {before[-1].path} ({_place(before[-1], call)})" if before else "by the dataset"
                    place = call.place(key, Port.WRITE)
                    faults.append(place.fault(f"writes {key!r}, already written {by}; choose another name"))
        kept |= {key: step for call in injectors for key in call.writes if not step.shows(key)}
    walked: set[tuple[int, Gate]] = set()
    for step in steps:
        faults += never(step)
        for loss in step.losses:
            faults += _uncovered(loss, loss.gate & step.gate, writers, walked)
    for writer in (writer for key in visuals for writer in writers.get(key, ())):
        faults += _uncovered(writer, writer.gate, writers, walked)
    return faults, writers


def _takes_turns(call: Call[Part], others: Iterable[Call[Part]], step: Step) -> bool:
    """Whether an injector is never on when one of some others of its step is."""
    own = {id(one) for one in step.injectors}
    return id(call) in own and all(id(one) in own and call.gate.excludes(one.gate) for one in others)


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


def beyond(steps: Iterable[Step], iterations: int) -> Iterable[Fault]:
    """Say what takes part in no iteration of a run, though it would in a longer one."""
    for step in steps:
        parts = [(step.node, step.gate), *((loss.node, loss.gate & step.gate) for loss in step.losses)]
        late = [(node, first) for node, gate in parts if (first := gate.first) is not None and first >= iterations]
        for node, first in late[:1] if late and late[0][0] is step.node else late:
            yield node.fault(f"takes part from iteration {first:,} on, and the run ends before, as train.niter says")


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
    pending, seen = [(reader, gate)], set[int]()
    while pending:
        reader, gate = pending.pop()
        further = []
        for key in reader.reads:
            fresh = [writer for writer in writers.get(key, ()) if id(writer) not in seen]
            seen |= {*map(id, fresh)}
            if fresh and not gate.covered_by(writer.gate for writer in fresh):
                who = " and ".join(writer.path for writer in fresh)
                when = "; ".join(f"{writer.gate}; {_place(writer, reader)}" for writer in fresh)
                yield reader.fault(
                    f"reads {key!r} ({gate}), which {who} {'does' if len(fresh) == 1 else 'do'} not write in all these "
                    f"iterations ({when}); give them the same gates",
                    key,
                )
            for writer in fresh:
                then = gate & writer.gate if len(fresh) > 1 else gate
                if (id(writer), then) not in walked:
                    walked.add((id(writer), then))
                    further.append((writer, then))
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
            for writer in writers.get(key, ()):
                if id(writer) not in own or id(writer) in seen:
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
