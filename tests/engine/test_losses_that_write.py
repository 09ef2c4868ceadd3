"""What a loss writes is there for later steps and for whoever looks, cut from its graph, and nowhere else."""

import pytest
import torch
from torch import Tensor

import gradloom
from gradloom import Loss, Read, Write
from gradloom.engine.calls import number_of
from gradloom.engine.preflight.look import look_ahead
from gradloom.errors import OptionsError
from looking import lines
from making import plan_of, trainer_of


class Remainder(Loss, type="test_remainder"):
    """The mean square of a difference, which it also writes."""

    real: Read
    fake: Read
    out: Write

    def forward(self, real: Tensor, fake: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        rest = fake - real
        return rest.square().mean(), {"most": rest.detach().abs().max()}, rest.detach()


RUN = """
    name: writes
    datasets:
      train: {mode: random_dataset, batch_size: 6, hq_shape: [1, 1, 1], lq_shape: [1, 1, 1]}
    networks:
      net: {which_model: test_mlp, inputs: 1, outputs: 1}
      other: {which_model: test_mlp, inputs: 1, outputs: 1}
    steps:
      first:
        training: net
        optimizer_params: {lr: 1e-2}
        injectors:
          made: {type: generator, generator: net, in: lq, out: made}
        losses:
          rest: {type: test_remainder, real: hq, fake: made, out: rest}
      second:
        training: other
        optimizer_params: {lr: 1e-2}
        injectors:
          guess: {type: generator, generator: other, in: lq, out: guess}
        losses:
          near: {type: pix, criterion: l2, real: rest, fake: guess}
    train: {niter: 4, mega_batch_factor: 2}
"""


def batch() -> dict[str, Tensor]:
    return {"hq": torch.rand(6, 1, 1, 1), "lq": torch.rand(6, 1, 1, 1)}


def test_a_later_step_reads_it_and_it_does_not_stay() -> None:
    trainer = trainer_of(RUN)
    before = {name: [p.clone() for p in net.parameters()] for name, net in trainer.networks.items()}
    metrics = trainer.train_step(batch())
    assert metrics["first/rest/most"] > 0 and "second/near" in metrics
    for name, net in trainer.networks.items():
        assert not any(torch.equal(p, old) for p, old in zip(net.parameters(), before[name], strict=True))
    assert all("rest" not in micro.state for micro in trainer.states)


def test_whoever_looks_finds_it_cut_from_its_graph() -> None:
    trainer, given = trainer_of(RUN), batch()
    made = trainer.networks["net"](given["lq"])
    trainer.train_step(given, keep=["rest"])
    rest = torch.cat([micro.state["rest"] for micro in trainer.states])
    torch.testing.assert_close(rest, (made - given["hq"]).detach())
    assert not rest.requires_grad


def test_it_is_told_of_in_listings_and_needs_no_value_beforehand() -> None:
    plan = plan_of(RUN)
    assert "    keep rest" in gradloom.plan.drawing.listing(plan).splitlines()
    assert "first_losses_rest" in gradloom.plan.drawing.mermaid(plan)
    report = look_ahead(plan, torch.device("cpu"))
    assert lines(report.faults) == []


def test_it_is_read_only_where_it_is_written() -> None:
    with pytest.raises(OptionsError, match=r"reads 'rest' \(always\), which steps.first.losses.rest does not"):
        plan_of(RUN.replace("out: rest}", "out: rest, after: 2}"))
    with pytest.raises(OptionsError, match="writes 'lq', already written by the dataset"):
        plan_of(RUN.replace("out: rest}", "out: lq}").replace("real: rest", "real: lq"))


def test_one_that_returns_a_number_alone_is_told_what_is_missing() -> None:
    told = number_of(torch.tensor(1.0), ("rest",))
    assert (
        told == "a loss returns a number, or a number and a mapping of metrics, then what it writes, rest, not a Tensor"
    )
