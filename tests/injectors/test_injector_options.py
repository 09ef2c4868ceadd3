"""The options of injectors as a file writes them."""

from typing import Any

import pytest

from gradloom.config.binding import make
from gradloom.config.schedules import Linear, LinearDecay
from gradloom.config.source import parse
from gradloom.parts import Injector


def read(text: str) -> tuple[Any, list[str]]:
    """The part that a YAML text makes, and what is wrong with the text."""
    node, faults = parse(text, "x.yml")
    assert node is not None
    cls = Injector.registry.choose(node, "type", faults)
    part = make(cls, node, faults, {"type"}) if cls else None
    return part, [fault.message for fault in faults]


def made(text: str) -> Any:
    part, messages = read(text)
    assert not messages
    return part


def test_the_inputs_of_a_generator() -> None:
    part = made(
        "{type: generator, generator: g, in: [z, None, 0.5, true, ~, [a, 2]], out: [fake, w], args: {steps: 3}}"
    )
    assert part.in_ == ["z", "None", 0.5, True, None, ["a", 2]]
    assert (part.reads(), part.writes(), part.args) == (("z", "a"), ("fake", "w"), {"steps": 3})


def test_a_scale_is_a_number_a_schedule_or_a_key() -> None:
    assert made("{type: add_noise, in: x, out: y, scale: 2}").scale == 2
    assert made("{type: add_noise, in: x, out: y, scale: sigma}").reads() == ("x", "sigma")
    scale = made("{type: add_noise, in: x, out: y, scale: {linear: {from: 0, to: 1, end: 5}}}")
    assert scale._schedules == {"scale": Linear(from_=0, to=1, end=5)}


def test_a_scheduler_in_the_words_of_the_ancestor() -> None:
    words = "{type: linear_decay, initial_weight: 1, lower_bound: 0, steps: 10, start_step: 2}"
    part = made(f"{{type: scheduled_scalar, out: w, scheduler: {words}}}")
    assert part._schedules == {"scheduler": LinearDecay(initial_weight=1, lower_bound=0, steps=10, start_step=2)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{type: interpolate, in: x, out: y, mode: nearest}", "write either 'scale_factor' or 'size'"),
        ("{type: noise, in: x, out: y, shape: [0]}", "should be greater than 0, got int 0"),
        ("{type: discriminator, discriminator: d, in: [x, 3], out: y}", "expected a state key, got int 3"),
        ("{type: constant, like: x, out: y, constant_type: zeros}", "expected one of zeroes, ones, got str 'zeros'"),
        ("{type: add_noise, in: x, out: y, mode: gauss}", "expected one of normal, uniform, got str 'gauss'"),
        ("{type: squeeze, in: x, out: y}", "option 'dim' is missing; it takes a whole number"),
    ],
)
def test_what_is_wrong_is_said(text: str, message: str) -> None:
    assert read(text)[1] == [message]
