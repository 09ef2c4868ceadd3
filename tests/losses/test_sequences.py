"""Losses of entries of sequences."""

from typing import Any

import pytest
import torch

from gradloom.config.binding import make
from gradloom.config.source import parse
from gradloom.errors import RunError
from gradloom.losses.for_element import ForElement
from gradloom.losses.pix import Pix
from gradloom.losses.recurrent import Recurrent
from gradloom.losses.teco_pingpong import TecoPingpong
from gradloom.parts import Inner, Loss

torch.manual_seed(0)
REAL, FAKE = torch.rand(2, 2, 5, 3, 4, 4, dtype=torch.float64)


def inner(real: Any = REAL, fake: Any = FAKE, **options: Any) -> Inner:
    return Inner(Pix(real="hq", fake="gen", criterion="l2", **options), {}, {"real": real, "fake": fake})


def squares(index: int) -> torch.Tensor:
    return ((REAL[:, index] - FAKE[:, index]) ** 2).mean()


def test_recurrent_adds_up_the_entries_losses() -> None:
    part = inner()
    loss, metrics = Recurrent(part=part.part)(part=part)
    torch.testing.assert_close(loss, sum(squares(t) for t in range(5)))
    assert metrics == {}


def test_recurrent_weighs_entries_and_averages_metrics() -> None:
    part, weights = inner(report_metrics=True), [0.0, 1.0, -2.0, 0.5, 3.0]
    loss, metrics = Recurrent(part=part.part, recurrent_weights=weights)(part=part)
    torch.testing.assert_close(loss, sum(w * squares(t) for t, w in enumerate(weights)))
    torch.testing.assert_close(metrics["real_pix_mean"], REAL.mean())


def test_recurrent_wants_a_weight_for_each_entry() -> None:
    part = inner()
    with pytest.raises(RunError, match="'recurrent_weights' has 2 numbers, the sequences 5 entries"):
        Recurrent(part=part.part, recurrent_weights=[1, 2])(part=part)


@pytest.mark.parametrize("index", [0, 2, -1])
def test_for_element_is_the_loss_of_that_entry(index: int) -> None:
    part = inner()
    torch.testing.assert_close(ForElement(part=part.part, index=index)(part=part)[0], squares(index))


def test_entries_that_are_not_there() -> None:
    part = inner()
    with pytest.raises(RunError, match="for_element: 'index' 5 is too large for sequences of 5 entries"):
        ForElement(part=part.part, index=5)(part=part)
    odd = inner(real=REAL[:, :3])
    with pytest.raises(RunError, match=r"takes sequences \(B, T, ...\) of one length; it reads \(2, 3, 3, 4, 4\), "):
        Recurrent(part=odd.part)(part=odd)


def test_the_ancestors_way_of_writing_it() -> None:
    text = "{type: recurrent, part: {type: pix, criterion: l1, real: hq, fake: gen}, recurrent_weights: [1, 2]}"
    node, faults = parse(text, "x.yml")
    assert node is not None
    part = make(Loss.registry.choose(node, "type", faults), node, faults, {"type"})
    assert not faults and part.reads() == ("hq", "gen")


def test_pingpong_compares_each_moment_with_itself_on_the_way_back() -> None:
    fake = FAKE.clone().requires_grad_()
    loss = TecoPingpong(fake="gen", criterion="l1")(fake=fake)
    expected = (FAKE[:, 0] - FAKE[:, 4]).abs().mean() + (FAKE[:, 1] - FAKE[:, 3]).abs().mean()
    torch.testing.assert_close(loss.detach(), expected)
    loss.backward()
    assert fake.grad is not None and (fake.grad[:, 2] == 0).all() and (fake.grad[:, 3] != 0).all()


def test_pingpong_wants_a_way_there_and_back() -> None:
    with pytest.raises(RunError, match=r"'gen' goes there and back, \(B, 2n - 1, ...\), not \(2, 4, 3, 4, 4\)"):
        TecoPingpong(fake="gen")(fake=FAKE[:, :4])
