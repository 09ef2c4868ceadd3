"""Show a plan: as the program it amounts to, or as a Mermaid graph."""

from collections.abc import Iterable
from typing import Any

from gradloom.config.schedules import Schedule
from gradloom.gates import Gate
from gradloom.parts import Injector, Part, Port
from gradloom.plan.plan import Call, Plan, Step


def listing(plan: Plan) -> str:
    """Write a plan as the straight-line program it stands for."""
    lines = [f"# {plan.name}: {plan.sections.train.niter:,} iterations, {plan.sections.precision}"]
    for name, network in plan.networks.items():
        notes = [] if network.trainable else ["frozen"]
        notes += [f"from {network.pretrained.file}"] if network.pretrained else []
        lines.append(_commented(f"{name} = {network.which_model}({_arguments(network.recipe.arguments.items())})", notes))
    for dataset in plan.datasets.values():
        options = _arguments(dataset.recipe.arguments.items())
        lines.append(f"{dataset.phase} = {dataset.mode}({options}), {dataset.batch_size} at a time")
    micro = plan.sections.train.mega_batch_factor
    lines += ["", f"{', '.join(plan.given) or 'nothing'} = next batch of train" + (f", in {micro} micro-batches" if micro > 1 else "")]
    for step in plan.steps:
        lines += ["", *_step(plan, step)]
    for measure in plan.measures:
        whom = [f"{measure.stands_in} in place of {measure.stands_in.removesuffix('.ema')}"] if measure.stands_in else []
        lines += ["", _commented(f"measure {measure.samples or 'all'} samples of val:", whom)]
        lines += [f"    {_injector(call)}" for call in measure.injectors]
        lines += [_commented(f"    {call.name} = {_call(call)}", _gates(call.gate)) for call in measure.calls]
    return "\n".join(lines)


def _step(plan: Plan, step: Step) -> Iterable[str]:
    first = plan.program(step.gate.first or 0)
    exports = next((routine.exports for routine in first.routines if routine.step is step), ())
    gate = [] if step.gate.always else [str(step.gate)]
    yield _commented(f"step {step.name}, training {', '.join(step.trains) or 'nothing'}:", gate)
    for call in step.injectors:
        yield f"    {_injector(call)}"
    for loss in step.losses:
        weight = loss.part.weight
        factor = f"{weight:g} * " if not isinstance(weight, Schedule) else f"{type(weight).__name__.lower()} * "
        yield _commented(f"    loss {'+' if loss is not step.losses[0] else ''}= {factor}{_call(loss)}", _gates(loss.gate))
    if step.updater:
        by = f"the optimizer of {step.updater}" if step.optimizer_of else _optimizer(step)
        yield f"    update by {by}"
    yield f"    keep {', '.join(exports) or 'nothing'}"


def _optimizer(step: Step) -> str:
    if step.optimizer is None:
        return "nothing"
    rate = step.optimizer.lr
    options = [("lr", rate if not isinstance(rate, Schedule) else type(rate).__name__.lower())]
    return f"{step.optimizer.recipe.make.__name__}({_arguments([*options, *step.optimizer.recipe.arguments.items()])})"


def _injector(call: Call[Injector]) -> str:
    part = call.part
    notes = [*_gates(call.gate)]
    notes += ["without gradients"] if part.no_grad or not part.grad else []
    notes += ["training only"] if part.train_ else ["evaluating only"] if part.eval_ else []
    return _commented(f"{', '.join(call.writes)} = {_call(call)}", notes)


def _gates(gate: Gate) -> list[str]:
    return [] if gate.always else [str(gate)]


def _commented(line: str, notes: list[str]) -> str:
    return f"{line}  # {'; '.join(notes)}" if notes else line


def _call(call: Call[Part]) -> str:
    """A call with its networks and keys, and the options that differ from their defaults."""
    part = call.part
    ports = [*call.networks, *(_names(getattr(part, field)) for field, port in part.ports.items() if port is Port.READ)]
    inherited = {"after", "before", "every", "weight", "grad", "no_grad", "train_", "eval_", "for_", "samples"}
    options = [
        (field.name.rstrip("_"), value)
        for field in part.options()
        if field.name not in inherited and field.name not in part.ports and (value := getattr(part, field.name)) != field.default
    ]
    return f"{part.type_name}({', '.join(filter(None, [*ports, _arguments(options)]))})"


def _names(names: Any) -> str:
    if names is None:
        return ""
    if isinstance(names, list | tuple):
        return f"[{', '.join(map(_names, names))}]"
    return str(names)


def _arguments(options: Iterable[tuple[str, Any]]) -> str:
    return ", ".join(f"{name}={_value(value)}" for name, value in options)


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def mermaid(plan: Plan) -> str:
    """Draw which part writes and which reads each key."""
    lines, source = ["flowchart LR"], {key: "batch" for key in plan.given}
    lines.append("  batch([batch])")
    for step in plan.steps:
        lines.append(f'  subgraph {step.name}["{step.name}: trains {", ".join(step.trains)}"]')
        for call in (*step.injectors, *step.losses):
            left, right = ("[", "]") if isinstance(call.part, Injector) else ("{{", "}}")
            lines.append(f'    {_box(call)}{left}"{call.name}: {call.part.type_name}"{right}')
        lines.append("  end")
        for call in (*step.injectors, *step.losses):
            lines += [f"  {source[key]} -- {key} --> {_box(call)}" for key in dict.fromkeys(call.reads) if key in source]
            lines += [f"  {network}[/{network}/] -.-> {_box(call)}" for network in dict.fromkeys(call.networks)]
            source |= dict.fromkeys(call.writes, _box(call))
    return "\n".join(lines)


def _box(call: Call[Part]) -> str:
    return call.path.replace(".", "_")
