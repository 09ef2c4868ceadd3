from typing import Any

import pytest
import torch
from torch import nn

from gradloom.injectors.discriminator import Discriminator
from gradloom.injectors.generator import Generator
from gradloom.parts import Injector


class Recorder(nn.Module):
    """Returns what it was called with."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    def invert(self, *args: Any, **kwargs: Any) -> Any:
        return "inverted", args, kwargs


def test_a_single_key_is_the_one_argument_even_if_its_value_is_a_tuple() -> None:
    latents = (torch.zeros(1), torch.ones(1))
    assert Generator(generator="g", in_="z", out="fake")(generator=Recorder(), in_=latents) == ((latents,), {})


def test_a_list_gives_one_argument_for_each_item() -> None:
    z, y = torch.zeros(1), torch.ones(1)
    part = Generator(generator="g", in_=["z", "None", 0.5, ["y", 3]], out="fake")
    assert part.reads() == ("z", "y")
    assert part(generator=Recorder(), in_=(z, None, 0.5, (y, 3))) == ((z, None, 0.5, (y, 3)), {})


def test_constant_arguments_and_a_method() -> None:
    part = Generator(generator="g", in_="z", out="fake", method="invert", args={"steps": 3})
    assert part(generator=Recorder(), in_=1) == ("inverted", (1,), {"steps": 3})


def test_the_arguments_of_two_parts_are_not_shared() -> None:
    first, second = (Generator(generator="g", in_="z", out="fake") for _ in range(2))
    assert first.args == {} and first.args is not second.args


def test_a_discriminator_takes_several_keys() -> None:
    part = Discriminator(discriminator="d", in_=("x", "y"), out=("score", "features"), args={"depth": 2})
    assert (part.reads(), part.writes(), part.networks()) == (("x", "y"), ("score", "features"), ("d",))
    assert part(discriminator=Recorder(), in_=(1, 2)) == ((1, 2), {"depth": 2})


@pytest.mark.parametrize(
    "part",
    [Generator(generator="net", in_="x", out="y"), Discriminator(discriminator="net", in_="x", out="y")],
    ids=["generator", "discriminator"],
)
def test_the_gradient_reaches_the_network_and_its_input(part: Injector) -> None:
    net, x = nn.Linear(2, 1).double(), torch.rand(3, 2, dtype=torch.float64, requires_grad=True)
    part(in_=x, **{part.type_name: net}).sum().backward()
    torch.testing.assert_close(net.weight.grad, x.detach().sum(0, keepdim=True))
    torch.testing.assert_close(x.grad, net.weight.detach().expand(3, 2))
