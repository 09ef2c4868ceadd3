"""BYOL: its loss and its slow copy by the paper's formulas, layers by name, and a run that is resumed."""

import copy
from math import cos, pi

import pytest
import torch
from torch import nn

from gradloom.networks.byol import Byol
from networks.subnets import small, subnet

VIEWS = torch.rand(2, 6, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
SIZES = {"image_size": 16, "projection_size": 5, "projection_hidden_size": 7}


def byol(layer="body", choice=None, **options):
    torch.manual_seed(0)
    return Byol(choice or small(), hidden_layer=layer, **{**SIZES, "aug_enable": False, **options}).double()


def moved(network):
    """The same, with a slow copy that is no copy any more."""
    for parameter in network.target_encoder.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return network


def test_the_loss_is_the_papers():
    network = moved(byol())
    one, two = VIEWS
    online, target = network.online_encoder, network.target_encoder

    def head(layers, x):  # linear, batch norm over the batch, ReLU, linear
        x = x @ layers[0].weight.T + layers[0].bias
        x = (x - x.mean(0)) / (x.var(0, unbiased=False) + layers[1].eps).sqrt()
        return (x * layers[1].weight + layers[1].bias).relu() @ layers[3].weight.T + layers[3].bias

    def direction(x):
        return x / x.square().sum(1, keepdim=True).sqrt()

    projected = [head(online.projector.net, online.net.body(view).flatten(1)) for view in (one, two)]
    predicted = [direction(head(network.online_predictor.net, z)) for z in projected]
    wanted = [direction(head(target.projector.net, target.net.body(view).flatten(1))) for view in (one, two)]
    cosines = [(predicted[0] * wanted[1]).sum(1), (predicted[1] * wanted[0]).sum(1)]
    expected = (4 - 2 * cosines[0] - 2 * cosines[1]).mean()
    torch.testing.assert_close(network(one, two), expected)
    assert 0 < expected < 8


def test_the_copy_follows_as_the_formula_says():
    network = moved(byol(moving_average_decay=0.9))
    before = [p.clone() for p in network.target_encoder.parameters()]
    online = [p.clone() for p in network.online_encoder.parameters()]
    network.update_for_step(3)
    for now, then, other in zip(network.target_encoder.parameters(), before, online, strict=True):
        torch.testing.assert_close(now, 0.9 * then + 0.1 * other)
    assert all(torch.equal(a, b) for a, b in zip(online, network.online_encoder.parameters(), strict=True))


def test_the_decay_may_rise_to_one():
    network = byol(moving_average_decay=0.98, moving_average_steps=10)
    for iteration in (0, 3, 10, 11):
        expected = 1 - 0.02 * (cos(pi * min(iteration, 10) / 10) + 1) / 2
        assert network.get_debug_values(iteration) == {"target_ema_beta": pytest.approx(expected)}
    assert network.decay_at(0) == pytest.approx(0.98)
    assert network.decay_at(10) == network.decay_at(11) == 1
    assert byol().decay_at(10**6) == 0.99


def test_gradients_reach_what_is_trained_and_not_the_copy():
    network = moved(byol())
    network(*VIEWS).backward()
    assert not any(p.requires_grad or p.grad is not None for p in network.target_encoder.parameters())
    for name, parameter in network.named_parameters():
        if not name.startswith(("target_encoder", "online_encoder.net.head")):  # which comes after the hidden layer
            assert parameter.grad is not None and parameter.grad.any(), name


def test_gradients_are_those_of_finite_differences():
    network = moved(byol())
    bias = network.online_predictor.net[3].bias

    def loss(value):
        return torch.func.functional_call(copy.deepcopy(network), {"online_predictor.net.3.bias": value}, tuple(VIEWS))

    assert torch.autograd.gradcheck(loss, bias.detach().clone().requires_grad_())


def test_nothing_is_called_to_find_the_shape_that_leaves_a_trace():
    network = byol()
    assert all(int(b) == 0 for name, b in network.named_buffers() if name.endswith("num_batches_tracked"))
    assert network.training
    assert network.online_encoder.net.training


@pytest.mark.parametrize(
    ("layer", "features"),
    [("body", 16 * 4 * 4), ("body.0", 4 * 16 * 16), (0, 16 * 4 * 4), (1, 10), (-1, 10), (-2, 256)],
)
def test_layers_by_name_or_number(layer, features):
    network = byol(layer)
    assert network.features(VIEWS[0]).shape == (6, features)
    assert network.online_encoder.projector.net[0].in_features == features
    network(*VIEWS).backward()


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("bdy", "hidden_layer: the subnet has no layer 'bdy'; did you mean 'body'"),
        (7, "hidden_layer: the subnet has 2 children, so none has the number 7"),
        ("unused", "hidden_layer: the layer 'unused' is not called; choose another"),
        ("pair", "hidden_layer: the layer 'pair' makes a tuple, not a tensor; choose another"),
    ],
)
def test_a_layer_that_cannot_be_taken_is_refused(layer, words):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.unused, self.pair = nn.Flatten(), nn.Linear(2, 2), nn.Identity()

        def forward(self, x):
            return self.pair((self.body(x), x))

    choice = small() if layer in ("bdy", 7) else copy.copy(small())
    if layer not in ("bdy", 7):
        choice = type(choice)("odd", Odd, {})
    with pytest.raises(ValueError, match=words):
        byol(layer, choice)


def test_a_head_for_maps_halves_them_twice():
    network = byol(use_structural_mlp=True)
    layers = network.online_encoder.projector.net
    assert [type(layer).__name__ for layer in layers] == [
        "Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d", "ReLU", "Flatten", "Linear", "BatchNorm1d", "ReLU", "Linear"
    ]  # fmt: skip
    assert layers[7].in_features == 16  # channels of one pixel
    network(*VIEWS).backward()
    with pytest.raises(
        ValueError, match=r"use_structural_mlp: it is for a layer that makes maps; this one makes \(1, 10\)"
    ):
        byol("head", use_structural_mlp=True)


def test_sequences():
    class Steps(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Conv1d(2, 4, 3, padding=1), nn.ReLU())

    options = {"positional_dims": 1, "channels": 2, "use_structural_mlp": True}
    network = byol(-1, type(small())("steps", Steps, {}), **options)
    x = torch.rand(2, 6, 2, 16, dtype=torch.float64)
    assert network(*x).shape == ()
    with pytest.raises(ValueError, match="aug_enable: views are drawn of RGB images only"):
        byol(-1, type(small())("steps", Steps, {}), **options, aug_enable=True)


def test_views_are_drawn_from_torchs_generator():
    pytest.importorskip("kornia")
    network = byol(aug_enable=True)
    assert not [name for name in network.state_dict() if "augment" in name]
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(network(*VIEWS.float().double()).item())
    assert losses[0] == losses[1] != losses[2]
    seen = []
    network.online_encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    network(VIEWS[0], VIEWS[0])
    assert [view.shape for view in seen] == [(6, 3, 16, 16)] * 2
    assert not torch.equal(*seen)
    assert not torch.equal(seen[0], VIEWS[0])


@pytest.mark.parametrize("normalize", [None, "imagenet"])
def test_views_can_be_followed_without_values(normalize):
    pytest.importorskip("kornia")
    with torch.device("meta"):
        network = Byol(small(), image_size=16, hidden_layer="body", normalize=normalize)
    assert network.to("meta")(*torch.rand(2, 4, 3, 16, 16, device="meta")).is_meta


def test_options_that_do_not_go_together_are_refused():
    with pytest.raises(
        ValueError, match="normalize: it says of which images views are drawn; with 'aug_enable: false'"
    ):
        byol(normalize="imagenet")


def test_weights_have_the_ancestors_names():
    names = set(byol().state_dict())
    assert {
        "online_encoder.net.body.0.0.weight", "online_encoder.projector.net.0.weight", "online_predictor.net.3.bias",
        "target_encoder.net.body.0.0.weight", "target_encoder.projector.net.1.running_mean",
    } <= names  # fmt: skip


def test_copies_are_on_their_own():
    network = byol()
    other = copy.deepcopy(network)
    other.load_state_dict({name: torch.zeros_like(value) for name, value in other.state_dict().items()})
    assert not torch.equal(network.features(VIEWS[0]), other.features(VIEWS[0]))
    torch.testing.assert_close(copy.deepcopy(network)(*VIEWS), network(*VIEWS))


def test_half_precision_is_compared_in_full():
    network = byol().bfloat16()
    assert network(*VIEWS.bfloat16()).dtype == torch.float32


def test_a_resnet_up_to_its_pooling():
    network = byol("avgpool", subnet("resnet18"))
    assert network.features(VIEWS[0]).shape == (6, 512)
    assert network(*VIEWS).isfinite()
