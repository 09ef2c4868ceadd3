"""The options of losses as a file writes them, the ancestor's among them."""

from typing import Any

import pytest

from gradloom.config.binding import make
from gradloom.config.schedules import Linear
from gradloom.config.source import parse
from gradloom.parts import TRAINED, Loss


def read(text: str) -> tuple[Any, list[str]]:
    """The part that a YAML text makes, and what is wrong with the text."""
    node, faults = parse(text, "x.yml")
    assert node is not None
    cls = Loss.registry.choose(node, "type", faults)
    part = make(cls, node, faults, {"type"}) if cls else None
    return part, [fault.message for fault in faults]


@pytest.mark.parametrize(
    ("text", "reads", "networks"),
    [
        ("{type: pix, weight: .5, criterion: l2, real: hq, fake: gen, after: 5}", ("hq", "gen"), ()),
        ("{type: direct, weight: -1, key: nll, annealing_termination_step: 1000}", ("nll",), ()),
        ("{type: cross_entropy, weight: 1, logits: l, labels: y, subtype: bce}", ("l", "y"), ()),
        ("{type: discriminator_gan, gan_type: ragan, weight: 1, real: hq, fake: dgen}", ("hq", "dgen"), (TRAINED,)),
        (
            "{type: generator_gan, gan_type: gan, weight: .1, discriminator: d, fake: gen, real: hq}",
            ("gen", "hq"),
            ("d",),
        ),
        (
            "{type: generator_gan, gan_type: gan, weight: 1, discriminator: d, fake: [gen, lq, 2, None]}",
            ("gen", "lq"),
            ("d",),
        ),
    ],
)
def test_the_ancestors_options(text: str, reads: tuple[str, ...], networks: tuple[str, ...]) -> None:
    part, messages = read(text)
    assert not messages
    assert (sorted(part.reads()), part.networks()) == (sorted(reads), networks)


def test_weight_and_noise_may_be_schedules() -> None:
    ramp = "{linear: {from: 1, to: 0, end: 10}}"
    part, messages = read(
        f"{{type: generator_gan, gan_type: gan, discriminator: d, fake: gen, weight: {ramp}, noise: {ramp}}}"
    )
    assert not messages
    assert part._schedules == dict.fromkeys(["weight", "noise"], Linear(from_=1, to=0, end=10))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{type: pix, real: hq, fake: gen, criterion: l3}",
            "expected one of l1, l2, charbonnier, huber, cosine, got str 'l3'",
        ),
        (
            "{type: pix, real: hq, fake: gen}",
            "option 'criterion' is missing; it takes one of l1, l2, charbonnier, huber, cosine",
        ),
        ("{type: direct, key: [a, b]}", "expected a state key, got the list ['a', 'b']"),
        ("{type: generator_gan, gan_type: gan, discriminator: d, fake: gen, minimum: 0.1}", "unknown option; "),
        ("{type: discriminator_gan, gan_type: ragn, real: hq, fake: gen}", "expected one of gan, pixgan, "),
    ],
)
def test_what_is_wrong_is_said(text: str, message: str) -> None:
    (said,) = read(text)[1]
    assert said.startswith(message)
