"""Show a plan: as the program it amounts to, or as a Mermaid graph."""

import re
from collections.abc import Iterable
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

from gradloom.config.schedules import Schedule
from gradloom.config.secrets import masked
from gradloom.gates import Gate
from gradloom.parts import Choice, Injector, Part, Port
from gradloom.plan.plan import Application, Call, Dataset, Plan, Step


def listing(plan: Plan) -> str:
    """Write a plan as the straight-line program it stands for."""
    length = f"{plan.sections.train.niter:,} iterations" if plan.sections.trains else "no training"
    lines = [f"# {plan.name}: {length}, {plan.sections.precision}"]
    for name, network in plan.networks.items():
        notes = [network.role] if network.role else []
        notes += [] if network.trainable else ["frozen"]
        notes += ["checkpointed"] if network.checkpointing else []
        notes += ["spread over the processes"] if network.spread else []
        notes += [f"{start.part} from {start.file}".lstrip() for start in network.starts]
        options = _arguments(network.recipe.arguments.items())
        lines.append(_commented(f"{name} = {network.which_model}({options})", notes))
    for dataset in plan.datasets.values():
        options = _arguments(dataset.recipe.arguments.items())
        lines.append(f"{dataset.phase} = {dataset.mode}({options}), {dataset.batch_size} at a time{_how(dataset)}")
    if plan.application and not plan.sections.trains:
        return "\n".join([*lines, *_application(plan.application)])
    micro = plan.sections.train.mega_batch_factor
    parts = "" if micro == 1 else f", in {'as few' if micro == 'auto' else micro} micro-batches"
    parts += " as fit" if micro == "auto" else ""
    lines += ["", f"{', '.join(plan.given) or 'nothing'} = next batch of train{parts}"]
    for step in plan.steps:
        lines += ["", *_step(plan, step)]
    for measure in plan.measures:
        other = measure.stands_in
        whom = [f"{other} in place of {other.removesuffix('.ema')}"] if other else []
        lines += ["", _commented(f"measure {measure.samples or 'all'} samples of {measure.phase}:", whom)]
        lines += [f"    {_injector(call)}" for call in measure.injectors]
        lines += [_commented(f"    {call.name} = {_call(call.part)}", _gates(call.gate)) for call in measure.calls]
    lines += [""] if plan.hooks else []
    for name, hook in plan.hooks.items():
        lines.append(f"besides, {name} = {hook.node.fields['type'].value}({_arguments(hook.arguments.items())})")
    return "\n".join(lines)


def _application(applied: Application) -> Iterable[str]:
    for phase, one in applied.passes.items():
        yield from ["", f"of every sample of {phase}:", *(f"    {_injector(call)}" for call in one.injectors)]
        yield f"    write {applied.output}"


def _how(dataset: Dataset) -> str:
    return (" in each process" if dataset.per_process else "") + ("" if dataset.drop_last else ", the rest too")


def _step(plan: Plan, step: Step) -> Iterable[str]:
    later = plan.steps[plan.steps.index(step) + 1 :]
    wanted = {key for other in later for call in (*other.injectors, *other.losses) for key in call.reads}
    made = [key for call in (*step.injectors, *step.losses) for key in call.writes]
    exports = [key for key in made if key in {*wanted, *plan.sections.logger.visuals}]
    gate = [] if step.gate.always else [str(step.gate)]
    yield _commented(f"step {step.name}, training {', '.join(step.trains) or 'nothing'}:", gate)
    for call in step.injectors:
        yield f"    {_injector(call)}"
    for loss in step.losses:
        sign = "=" if loss is step.losses[0] else "+="
        yield _commented(f"    loss {sign} {_value(loss.part.weight)} * {_call(loss.part)}", _gates(loss.gate))
    if step.updater:
        by = f"the optimizer of {step.updater}" if step.optimizer_of else _optimizer(step)
        clips = [(step.clip_grad_norm, "all gradients"), (step.clip_grad_eps, "each group's gradients")]
        yield _commented(f"    update by {by}", [f"{whose} clipped to norm {norm:g}" for norm, whose in clips if norm])
    yield f"    keep {', '.join(exports) or 'nothing'}"


def _optimizer(step: Step) -> str:
    if step.optimizer is None:
        return "nothing"
    options = {"lr": step.optimizer.lr, **step.optimizer.recipe.arguments}
    options |= {"weight_decay": step.optimizer.weight_decay} if step.optimizer.weight_decay else {}
    return f"{step.optimizer.recipe.make.__name__}({_arguments(options.items())})"


def _injector(call: Call[Injector]) -> str:
    part = call.part
    notes = [*_gates(call.gate)]
    notes += ["without gradients"] if part.no_grad or not part.grad else []
    notes += ["training only"] if part.train_ else ["evaluating only"] if part.eval_ else []
    return _commented(f"{', '.join(call.writes)} = {_call(part)}", notes)


def _gates(gate: Gate) -> list[str]:
    return [] if gate.always else [str(gate)]


def _commented(line: str, notes: list[str]) -> str:
    return f"{line}  # {'; '.join(notes)}" if notes else line


def _call(part: Part) -> str:
    """A call with its networks, its keys, by name where there are several, and what differs from the defaults."""
    reads = [(field.rstrip("_"), getattr(part, field)) for field, port in part.ports.items() if port is Port.READ]
    reads = [(name, value) for name, value in reads if value is not None]
    keys = _arguments(reads) if len(reads) > 1 else "".join(_value(value) for _, value in reads)
    own = [field for field in part.options() if field.init and field.name not in {*_SHOWN_ELSEWHERE, *part.ports}]
    options = [(field.name.rstrip("_"), getattr(part, field.name)) for field in own if _is_set(part, field)]
    within = [(field.rstrip("_"), part.parts_at(field)) for field, port in part.ports.items() if port is Port.PART]
    inner = [f"{field}.{key}".rstrip(".") + f"={_call(each)}" for field, parts in within for key, each in parts.items()]
    own_networks = part.names_at(Port.NET)
    return f"{part.type_name}({', '.join(filter(None, [*own_networks, keys, *inner, _arguments(options)]))})"


_SHOWN_ELSEWHERE = {"after", "before", "every", "weight", "grad", "no_grad", "train_", "eval_", "for_", "samples"}


def _is_set(part: Part, field: Field[Any]) -> bool:
    default = field.default if field.default_factory is MISSING else field.default_factory()
    return bool(getattr(part, field.name) != default)


def _arguments(options: Iterable[tuple[str, Any]]) -> str:
    return ", ".join(f"{name}={_value(masked(value, name))}" for name, value in options)


def _value(value: Any) -> str:
    """A value as the options write it, more or less."""
    if isinstance(value, Schedule):
        kind = next(name for name, cls in Schedule.kinds.items() if cls is type(value))
        own = [(field.name.rstrip("_"), getattr(value, field.name)) for field in fields(value)]
        return f"{kind}({_arguments(own[1:])} {value.unit}s)"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Choice):
        return f"{value.name}({_arguments(value.arguments.items())})"
    if is_dataclass(value) and not isinstance(value, type):
        each = {field: getattr(value, field.name) for field in fields(value)}
        return _value({field.name: given for field, given in each.items() if given != field.default})
    if isinstance(value, dict):
        return f"{{{_arguments(value.items())}}}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def mermaid(plan: Plan) -> str:
    """Draw which part writes and which reads each key, and the networks they call."""
    lines, source = ["flowchart LR", "  batch([batch])"], dict.fromkeys(plan.given, "batch")
    lines += [f"  {_box('network', name)}[/{name}/]" for name in plan.networks]
    for step in plan.steps:
        trained = ", ".join(step.trains) or "nothing"
        lines.append(f'  subgraph {_box("step", step.name)}["{step.name}: trains {trained}"]')
        for call in (*step.injectors, *step.losses):
            left, right = ("[", "]") if isinstance(call.part, Injector) else ("{{", "}}")
            lines.append(f'    {_box(call.path)}{left}"{call.name}: {call.part.type_name}"{right}')
        lines.append("  end")
        for call in (*step.injectors, *step.losses):
            box, reads = _box(call.path), dict.fromkeys(call.reads)
            lines += [f'  {source[key]} -- "{key}" --> {box}' for key in reads if key in source]
            lines += [f"  {_box('network', _base(name))} -.-> {box}" for name in dict.fromkeys(call.networks)]
            source |= dict.fromkeys(call.writes, box)
    return "\n".join(lines)


def _base(network: str) -> str:
    return network.removesuffix(".ema")


def _box(*path: str) -> str:
    """A name that Mermaid takes."""
    return re.sub(r"\W", "_", "_".join(path))
