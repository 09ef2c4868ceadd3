"""Every optimizer of torch's by its name, and the options that all of them share."""

from typing import Any

import pytest
import torch
from torch import optim

from gradloom.config.schedules import Linear
from gradloom.config.source import parse
from gradloom.errors import Fault
from gradloom.gates import Gate
from gradloom.plan.optimizers import bind_optimizer, optimizers
from gradloom.plan.plan import Optimizer

NAMES = sorted(
    name
    for name, value in vars(optim).items()
    if isinstance(value, type) and issubclass(value, optim.Optimizer) and name not in ("Optimizer", "LBFGS")
)


OURS = ["adamw_zero", "lamb", "lars", "mu_adamw"]


def bound(name: str | None, params: str) -> tuple[Optimizer | None, list[str]]:
    node, _ = parse(f"optimizer: {name}\noptimizer_params: {params}", "x.yml")
    assert node is not None
    faults: list[Fault] = []
    found = bind_optimizer(node.get("optimizer") if name else None, node.fields["optimizer_params"], faults)
    return found, [fault.message for fault in faults]


def sound(name: str | None, params: str) -> Optimizer:
    found, faults = bound(name, params)
    assert faults == []
    assert found is not None
    return found


def built(planned: Optimizer) -> Any:
    decay = {} if planned.weight_decay is None else {"weight_decay": planned.weight_decay}
    return planned.recipe.make(
        [torch.ones(2, 2, requires_grad=True)], lr=planned.lr, **decay, **planned.recipe.arguments
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_of_torch_is_found_in_any_case_and_built(name: str) -> None:
    for spelling in (name, name.lower(), name.upper()):
        planned = sound(spelling, "{lr: 0.125}")
        assert planned.recipe.make is getattr(optim, name)
        optimizer = built(planned)
        assert optimizer.param_groups[0]["lr"] == 0.125
        assert not optimizer.param_groups[0].get("weight_decay")


def test_these_are_all_and_the_one_that_asks_for_the_loss_again_is_none() -> None:
    assert optimizers.names == {*map(str.lower, NAMES), *OURS}


def test_without_a_name_it_is_adamw_without_weight_decay() -> None:
    planned = sound(None, "{lr: 1e-4}")
    assert planned.recipe.make is optim.AdamW
    assert (planned.lr, planned.weight_decay, planned.gate, planned.recipe.arguments) == (1e-4, 0.0, Gate(), {})


@pytest.mark.parametrize(
    ("params", "betas"),
    [
        ("{lr: 1, beta1: 0.5, beta2: 0.99}", (0.5, 0.99)),
        ("{lr: 1, beta1: 0}", (0.0, 0.999)),
        ("{lr: 1, beta2: 0.9}", (0.9, 0.9)),
        ("{lr: 1, betas: [0.5, 0.9]}", (0.5, 0.9)),
    ],
)
def test_betas_are_written_in_either_way(params: str, betas: tuple[float, float]) -> None:
    planned = sound("adam", params)
    assert planned.recipe.arguments == {"betas": betas}
    assert built(planned).param_groups[0]["betas"] == betas


def test_the_options_of_the_optimizer_itself_are_kept_for_it() -> None:
    planned = sound("sgd", "{lr: 1, momentum: 0.9, nesterov: true, weight_decay: 1e-2}")
    assert planned.recipe.arguments == {"momentum": 0.9, "nesterov": True}
    assert planned.weight_decay == 1e-2
    assert sound("rprop", "{lr: 1}").weight_decay is None


@pytest.mark.parametrize(
    ("name", "decay"), [("adamw", 0), ("sgd", 0), ("lars", 0), ("lamb", 1e-2), ("adamw_zero", 1e-2)]
)
def test_without_a_word_weights_decay_as_in_the_ancestor(name: str, decay: float) -> None:
    assert sound(name, "{lr: 1}").weight_decay == decay
    assert sound(name, "{lr: 1, weight_decay: 0}").weight_decay == 0


def test_groups_have_rates_and_names() -> None:
    planned = sound(
        "lamb",
        "{lr: 1, param_groups: {deep: {lr: 0.5}, flat: {lr: {linear: {from: 1, to: 0, end: 9}}, names: [a.*, b]}}}",
    )
    assert [(group.name, group.lr, group.patterns) for group in planned.groups] == [
        ("deep", 0.5, ()),
        ("flat", Linear(from_=1, to=0, end=9), ("a.*", "b")),
    ]


def test_the_rate_may_be_a_schedule_and_updates_may_be_gated() -> None:
    planned = sound("adam", "{lr: {linear: {from: 1, to: 0, end: 9}}, after: 5, before: 8}")
    assert planned.lr == Linear(from_=1, to=0, end=9)
    assert planned.gate == Gate(5, 8)
    assert sound("adam", "{lr: 1, before: -1}").gate == Gate()


@pytest.mark.parametrize(
    ("name", "params", "messages"),
    [
        ("adam", "{}", ["option 'lr' is missing; it takes a number or a schedule"]),
        ("adam", "3", ["expected options such as 'lr', got int 3"]),
        ("adam", "{lr: -1}", ["should be greater than or equal to 0, got int -1"]),
        ("adam", "{lr: .nan}", ["should be a finite number, got float nan"]),
        ("adam", "{lr: 1, beta1: 1}", ["should be less than 1, got int 1"]),
        ("adam", "{lr: 1, beta2: 0.5, betas: [0.5, 0.9]}", ["'betas' is there too; remove it"]),
        ("adam", "{lr: 1, betas: [0.5]}", ["expected [a number, a number], got the list [0.5]"]),
        ("adam", "{lr: 1, betas: [0.5, 2]}", ["torch refuses this: Invalid beta parameter at index 1: 2.0"]),
        ("adam", "{lr: 1, epss: 1}", ["unknown option; did you mean 'eps'?"]),
        ("sgd", "{lr: 1, beta1: 0.5}", ["this optimizer has no betas; remove it"]),
        ("sparseadam", "{lr: 1, weight_decay: 0.1}", ["sparseadam has no weight decay; remove it"]),
        ("lamb", "{lr: 1, eps: -1}", ["it refuses this: 'eps' is at least 0, got -1.0"]),
        ("lars", "{lr: 1, adapt: false}", ["unknown option; known: after, before, beta1, beta2, clip, eps, lars_coefficient, lr, momentum, offload, param_groups, weight_decay"]),
        ("lars", "{lr: 1, beta1: 0.5}", ["this optimizer has no betas; remove it"]),
        ("mu_adamw", "{lr: 1}", ["no optimizer is called 'mu_adamw'; it needs the library 'mup', which is not installed"]),
        ("adamw_zero", "{lr: 1, offload: true}", ["adamw_zero has its state in parts already; remove one"]),
        ("adam", "{lr: 1, param_groups: {a: {names: x}}}", ["option 'lr' is missing; it takes a number or a schedule"]),
        ("adam", "{lr: 1, param_groups: {a: {lr: 1, weight: 3}}}", ["unknown option; known: lr, names"]),
        ("adamm", "{lr: fast}", ["no optimizer is called 'adamm'; did you mean 'adam'?"]),
        ("lbfgs", "{lr: 1}", ["no optimizer is called 'lbfgs'; known: " + ", ".join(sorted([*map(str.lower, NAMES), *OURS]))]),
    ],
)  # fmt: skip
def test_what_cannot_be_is_a_fault(name: str, params: str, messages: list[str]) -> None:
    assert bound(name, params) == (None, messages)


@pytest.mark.parametrize("option", ["maximize", "params", "differentiable", "capturable"])
def test_what_is_not_for_options_to_set_is_unknown(option: str) -> None:
    found, (message,) = bound("adam", f"{{lr: 1, {option}: true}}")
    assert found is None
    assert message.startswith(
        ("unknown option; known: after, amsgrad, ", "unknown option; did you mean 'param_groups'")
    )


def test_one_that_needs_a_closure_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(optimizers.classes, "again", optim.LBFGS)
    assert bound("again", "{lr: 1}")[1] == [
        "step() of again needs a closure, to ask for the loss again; choose another"
    ]
