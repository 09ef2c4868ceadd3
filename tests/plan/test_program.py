"""What an iteration runs, against a simulator that looks at every key after every call."""

from collections.abc import Iterable
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gradloom.gates import Gate
from gradloom.plan.dataflow import check
from gradloom.plan.plan import Plan, Step
from gradloom.plan.program import Action, Program, program
from plan.planning import injector, loss, plan, step

GIVEN = ("x", "y")
ITERATIONS = range(16)


def flat(found: Program) -> list[Action]:
    return [action for routine in found.routines for action in (*routine.injectors, *routine.losses)]


def simulate(found: Program, keep: frozenset[str]) -> None:
    """Run a program on a set of keys; see that all is there when read, goes after its last reader, and is needed."""
    actions = flat(found)
    state = set(found.inputs)
    for number, action in enumerate(actions):
        call, later = action.call, actions[number + 1 :]
        assert set(call.reads) <= state, f"{call.path} reads what is not there"
        state |= set(call.writes)
        assert set(action.frees) <= state, f"{call.path} frees what is not there"
        state -= set(action.frees)
        wanted = keep | {key for other in later for key in other.call.reads}
        assert state & {*call.reads, *call.writes} <= wanted, f"{call.path} leaves what nothing reads"
        if call.writes:
            assert wanted & set(call.writes), f"{call.path} need not run"
    assert state <= keep
    assert set(found.inputs) <= keep | {key for action in actions for key in action.call.reads}


def exported(found: Program, keep: frozenset[str]) -> list[set[str]]:
    """What each routine writes that is read after it, or kept."""
    sets = []
    for number, routine in enumerate(found.routines):
        after = {key for later in found.routines[number + 1 :] for key in keys_read(later)}
        written = {key for action in routine.injectors for key in action.call.writes}
        sets.append(written & (after | keep))
    return sets


def keys_read(routine: Any) -> Iterable[str]:
    return [key for action in (*routine.injectors, *routine.losses) for key in action.call.reads]


def gates(draw: st.DrawFn) -> dict[str, Any]:
    if draw(st.integers(0, 2)):
        return {}
    return {
        "after": draw(st.integers(0, 6)),
        "before": draw(st.none() | st.integers(4, 12)),
        "every": draw(st.sampled_from([1, 1, 2, 3, 4])),
    }


@st.composite
def programs_of_steps(draw: st.DrawFn) -> list[Step]:
    """Steps whose injectors write keys of their own and read keys of the batch or of injectors before them."""
    known, steps, count = [*GIVEN], [], 0
    for number in range(draw(st.integers(1, 3))):
        injectors = []
        for _ in range(draw(st.integers(0, 4))):
            reads = draw(st.lists(st.sampled_from(known), min_size=1, max_size=3))
            writes = [f"k{count + extra}" for extra in range(draw(st.integers(1, 2)))]
            count += len(writes)
            kind = draw(st.sampled_from([{}, {}, {}, {"train_": True}]))
            injectors.append(injector(f"steps.s{number}.injectors.i{count}", reads, writes, **kind, **gates(draw)))
            known += writes
        keys = draw(st.lists(st.sampled_from(known), max_size=3))
        losses = [loss(f"steps.s{number}.losses.l{place}", key, **gates(draw)) for place, key in enumerate(keys)]
        steps.append(step(f"s{number}", injectors, losses, ("n", "m"), Gate(**gates(draw))))
    return steps


@settings(deadline=None, derandomize=True, max_examples=150, suppress_health_check=[HealthCheck.filter_too_much])
@given(programs_of_steps(), st.sets(st.integers(0, 9)), st.integers(0, 8))
def test_a_checked_plan_runs_at_every_iteration_and_runs_nothing_in_vain(
    steps: list[Step], kept: set[int], late: int
) -> None:
    written = {key for each in steps for call in each.injectors for key in call.writes}
    keep = frozenset({f"k{number}" for number in kept} & written)
    faults, _ = check(steps, GIVEN, (), keep)
    assume(not any("reads" in fault.message for fault in faults))
    whole = plan(steps, n=Gate(late), m=Gate())
    for iteration in ITERATIONS:
        for kept_keys in (frozenset[str](), keep):
            found = program(whole, iteration, kept_keys)
            assert set(found.inputs) <= set(GIVEN)
            simulate(found, kept_keys)
            assert [set(routine.exports) for routine in found.routines] == exported(found, kept_keys)
            assert_it_trains_what_its_gates_let(whole, found, iteration)


def assert_it_trains_what_its_gates_let(whole: Plan, found: Program, iteration: int) -> None:
    routines = {routine.step.name: routine for routine in found.routines}
    assert list(routines) == [each.name for each in whole.steps if each.name in routines]
    for each in whole.steps:
        active = [call for call in each.losses if call.part.active(iteration)] if each.gate.open(iteration) else []
        routine = routines.get(each.name)
        assert [action.call for action in routine.losses] == active if routine else not active
        if routine:
            networks = [name for name in each.trains if whole.networks[name].gate.open(iteration)]
            assert routine.trains == (tuple(networks) if active else ())
            assert routine.trains or not routine.losses
            order = [each.injectors.index(action.call) for action in routine.injectors]
            assert order == sorted(order)
            assert all(action.call.part.active(iteration) for action in routine.injectors)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(programs_of_steps())
def test_gates_are_refused_only_where_some_iteration_reads_what_is_not_written(steps: list[Step]) -> None:
    faults, _ = check(steps, GIVEN)
    refused = any("reads" in fault.message for fault in faults)
    whole = plan(steps, n=Gate(), m=Gate())
    broken = False
    for iteration in range(40):
        state = set(GIVEN)
        for action in flat(program(whole, iteration, frozenset())):
            broken |= not set(action.call.reads) <= state
            state |= set(action.call.writes)
    assert refused == broken


@settings(deadline=None, derandomize=True, max_examples=50)
@given(programs_of_steps())
def test_a_plan_remembers_its_programs_by_what_is_open(steps: list[Step]) -> None:
    whole = plan(steps, n=Gate(3), m=Gate())
    for iteration in ITERATIONS:
        remembered, fresh = whole.program(iteration), program(whole, iteration, frozenset())
        assert remembered.inputs == fresh.inputs
        assert [(a.call, a.frees) for a in flat(remembered)] == [(a.call, a.frees) for a in flat(fresh)]
        assert whole.program(iteration) is remembered


def test_a_step_off_cycle_supplies_later_steps_and_trains_nothing() -> None:
    first = step("a", [injector("i", ["x"], ["fake"]), injector("j", ["x"], ["unused"])], [loss("l", "fake")],
                 gate=Gate(every=2))  # fmt: skip
    second = step("b", [], [loss("m", "fake")])
    found = program(plan([first, second], n=Gate()), 1, frozenset())
    supplying, training = found.routines
    assert (supplying.trains, supplying.losses, supplying.exports) == ((), (), ("fake",))
    assert [action.call.path for action in supplying.injectors] == ["i"]
    assert training.trains == ("n",)
    assert found.inputs == ("x",)


def test_a_step_off_cycle_that_nothing_needs_is_left_out() -> None:
    off = step("a", [injector("i", ["x"], ["fake"])], [loss("l", "fake")], gate=Gate(every=2))
    found = program(plan([off], n=Gate()), 1, frozenset())
    assert (found.routines, found.inputs) == ((), ())


def test_a_step_whose_networks_all_wait_trains_nothing() -> None:
    waiting = step("a", [injector("i", ["x"], ["fake"])], [loss("l", "fake")])
    whole = plan([waiting], n=Gate(5))
    assert program(whole, 4, frozenset()).routines == ()
    assert program(whole, 5, frozenset()).routines[0].trains == ("n",)


def test_a_step_trains_the_networks_that_do_not_wait() -> None:
    both = step("a", [injector("i", ["x"], ["fake"])], [loss("l", "fake")], ("n", "m"))
    assert program(plan([both], n=Gate(5), m=Gate()), 4, frozenset()).routines[0].trains == ("m",)


def test_what_is_kept_is_made_and_stays_and_what_is_not_written_now_is_not_asked_of_the_batch() -> None:
    every_other = injector("i", ["x"], ["fake"], every=2)
    only = step("a", [every_other], [loss("l", "y")])
    whole = plan([only], n=Gate())
    kept = program(whole, 0, frozenset({"fake", "y"}))
    assert kept.inputs == ("x", "y")
    assert kept.routines[0].exports == ("fake",)
    assert [action.frees for action in flat(kept)] == [("x",), ()]
    assert program(whole, 1, frozenset({"fake"})).inputs == ("y",)


def test_injectors_for_evaluating_do_not_run_while_training() -> None:
    only = step("a", [injector("i", ["x"], ["fake"], eval_=True)], [loss("l", "y")])
    found = program(plan([only], n=Gate()), 0, frozenset())
    assert found.routines[0].injectors == ()
