"""What holds for every network of the package; a new one needs one line in EXAMPLES of tests/each_network.py."""

import copy
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, get_type_hints

import pytest
import torch
from torch import Tensor, nn

import each_network
from each_network import EXAMPLES, built, names
from gradloom.parts import networks

NAMES = names()
SINGLE = {"raft": "torchvision's RAFT looks its correlations up at places in float32"}
"""Networks that do not compute in double precision, and why."""


BEYOND = ("online_encoder.net.head.",)  # after the layer whose features are learnt
UNTAUGHT = {
    "byol": BEYOND,
    "discriminator_unet_fea": ("fea_proc.",),  # makes features, which are not asked for
    "pixel_local_byol": BEYOND,
    "rrdb_latent_wrapper": ("wrappedRRDB.conv_up", "wrappedRRDB.conv_hr", "wrappedRRDB.conv_last"),  # make images
    "structural_byol": BEYOND,
}
"""How the weights begin that what a network returns is no function of."""


def cls(name: str) -> type[nn.Module]:
    found = networks.find(name)
    assert isinstance(found, type)
    return found


@pytest.fixture(scope="module")
def name(request: pytest.FixtureRequest) -> str:
    named: str = request.param
    return named


@pytest.fixture(scope="module")
def network(name: str) -> nn.Module:
    """A network that was given a batch in training, which moves norms; tests leave it as it is."""
    return shown(name)


every_network = pytest.mark.parametrize("name", EXAMPLES, indirect=True, scope="module")


def shown(name: str) -> nn.Module:
    torch.manual_seed(0)
    network = built(name, EXAMPLES[name].options)
    network(*inputs(name))
    return network.eval()


def inputs(name: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    return tuple(x.to(dtype) if x.is_floating_point() else x for x in EXAMPLES[name].inputs())


def outputs(network: nn.Module, given: tuple[Tensor, ...]) -> list[Tensor]:
    """What a network makes of inputs; what it draws is the same each time."""
    torch.manual_seed(2)
    return [*_tensors(network(*given))]


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors([*value.values()])
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from _tensors(inner)


def agree(ours: Any, theirs: Any) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", NAMES)
def test_has_an_example(name: str) -> None:
    assert name in EXAMPLES, (
        f"the network {name!r} has no example: add its options, and what makes its inputs, "
        f"to EXAMPLES in {each_network.__file__}"
    )


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_that_of_a_network(name: str) -> None:
    assert name in NAMES, f"no network of the package is called {name!r}"


@pytest.mark.parametrize("name", NAMES)
def test_lives_in_the_module_of_its_name(name: str) -> None:
    assert cls(name).__module__ == f"gradloom.networks.{name}"


@pytest.mark.parametrize("name", NAMES)
def test_is_documented_in_a_sentence(name: str) -> None:
    written = inspect.cleandoc(vars(cls(name))["__doc__"])
    assert "." in written.partition("\n\n")[0]


@pytest.mark.parametrize("name", NAMES)
def test_annotates_every_option(name: str) -> None:
    hints = get_type_hints(cls(name).__init__, include_extras=True)
    options = [*inspect.signature(cls(name)).parameters]
    assert all(hints.get(option, Any) is not Any for option in options)


@every_network
def test_begins_alike_under_a_seed(name: str, network: nn.Module) -> None:
    agree(shown(name).state_dict(), network.state_dict())


@every_network
def test_survives_copying(name: str, network: nn.Module) -> None:
    twin = copy.deepcopy(network)
    assert type(twin) is type(network) and not twin.training
    agree(twin.state_dict(), network.state_dict())
    agree(outputs(twin, inputs(name)), outputs(network, inputs(name)))


@every_network
def test_repeats_itself_and_leaves_all_as_it_was(name: str, network: nn.Module) -> None:
    state, given = copy.deepcopy(network.state_dict()), inputs(name)
    agree(outputs(network, given), outputs(network, given))
    agree(network.state_dict(), state)
    agree(given, inputs(name))


@every_network
def test_teaches_what_it_trains_and_leaves_what_it_is_given_as_it_was(name: str, network: nn.Module) -> None:
    learner, given = copy.deepcopy(network).train(), inputs(name)
    made = [one for one in outputs(learner, given) if one.is_floating_point()]
    assert made and all(one.isfinite().all() for one in made)
    differentiable = [one for one in made if one.requires_grad]
    torch.autograd.backward(differentiable, [torch.randn_like(one) for one in differentiable])
    agree(given, inputs(name))
    gradients = {key: parameter.grad for key, parameter in learner.named_parameters() if parameter.requires_grad}
    taught = {key: gradient for key, gradient in gradients.items() if gradient is not None}
    assert gradients.keys() - taught.keys() == {key for key in gradients if key.startswith(UNTAUGHT.get(name, ()))}
    assert all(gradient.isfinite().all() for gradient in taught.values())
    assert any(gradient.any() for gradient in taught.values())


@every_network
def test_keeps_double_precision(name: str, network: nn.Module) -> None:
    if name in SINGLE:
        pytest.skip(SINGLE[name])
    for made in outputs(copy.deepcopy(network).double(), inputs(name, torch.float64)):
        assert made.dtype == torch.float64 or not made.is_floating_point()
