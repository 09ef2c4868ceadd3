"""RRDBNet, against a restatement of the published networks as one function of their weights."""

import pytest
import torch
from torch.nn.functional import avg_pool2d, conv2d, interpolate, leaky_relu

from gradloom.networks.RRDBNet import RRDBNet


def published(weights, x, nb, doublings):
    """ESRGAN's arithmetic, from weights under the names that DL-Art-School and BasicSR give them."""

    def layer(name, *inputs):
        return conv2d(torch.cat(inputs, 1), weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)

    def dense(name, x0):
        x1 = leaky_relu(layer(f"{name}.conv1", x0), 0.2)
        x2 = leaky_relu(layer(f"{name}.conv2", x0, x1), 0.2)
        x3 = leaky_relu(layer(f"{name}.conv3", x0, x1, x2), 0.2)
        x4 = leaky_relu(layer(f"{name}.conv4", x0, x1, x2, x3), 0.2)
        return 0.2 * layer(f"{name}.conv5", x0, x1, x2, x3, x4) + x0

    first = layer("conv_first", x)
    body = first
    for i in range(nb):
        inner = body
        for j in (1, 2, 3):
            inner = dense(f"body.{i}.rdb{j}", inner)
        body = 0.2 * inner + body
    features = first + layer("conv_body", body)
    for i in range(max(2, doublings)):
        if i < doublings:
            features = features.repeat_interleave(2, -1).repeat_interleave(2, -2)
        features = leaky_relu(layer(f"conv_up{i + 1}", features), 0.2)
    return layer("conv_last", leaky_relu(layer("conv_hr", features), 0.2))


def folded(x, factor):
    """Pixels of factor x factor blocks as channels, those of one colour together."""
    blocks = x.unfold(2, factor, factor).unfold(3, factor, factor)
    return blocks.permute(0, 1, 4, 5, 2, 3).flatten(1, 3)


def lively(**options):
    """A network whose weights are not small, so that each counts."""
    torch.manual_seed(0)
    network = RRDBNet(**{"in_nc": 3, "out_nc": 3, "nf": 4, "nb": 2, "scale": 4, "gc": 3, **options})
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network


@pytest.mark.parametrize(("scale", "doublings"), [(1, 0), (2, 1), (4, 2), (8, 3)])
def test_it_computes_what_is_published(scale, doublings):
    network, x = lively(scale=scale), torch.rand(2, 3, 6, 5)
    y = network(x)
    assert y.shape == (2, 3, 6 * scale, 5 * scale)
    torch.testing.assert_close(y, published(network.state_dict(), x, 2, doublings))


@pytest.mark.parametrize("scale", [1, 2])
def test_unshuffle_is_basicsr(scale):
    network, x = lively(scale=scale, unshuffle=True), torch.rand(2, 3, 8, 12)
    y = network(x)
    assert y.shape == (2, 3, 8 * scale, 12 * scale)
    torch.testing.assert_close(y, published(network.state_dict(), folded(x, 4 // scale), 2, 2))


@pytest.mark.parametrize(
    ("scale", "unshuffle", "inputs", "num_ups"),
    [(1, False, 3, 2), (2, False, 3, 2), (4, False, 3, 2), (8, False, 3, 3), (2, True, 12, 2), (1, True, 48, 2)],
)
def test_names_and_shapes_are_the_published_ones(scale, unshuffle, inputs, num_ups):
    nf, gc, nb = 16, 8, 2
    shapes = {"conv_first": (nf, inputs), "conv_body": (nf, nf), "conv_hr": (nf, nf), "conv_last": (3, nf)}
    shapes |= {f"conv_up{i + 1}": (nf, nf) for i in range(num_ups)}
    for block in [f"body.{i}.rdb{j}" for i in range(nb) for j in (1, 2, 3)]:
        shapes |= {f"{block}.conv{k + 1}": (gc, nf + k * gc) for k in range(4)} | {f"{block}.conv5": (nf, nf + 4 * gc)}
    expected = {f"{name}.weight": (*shape, 3, 3) for name, shape in shapes.items()}
    expected |= {f"{name}.bias": shape[:1] for name, shape in shapes.items()}
    network = RRDBNet(in_nc=3, out_nc=3, nf=nf, nb=nb, scale=scale, gc=gc, unshuffle=unshuffle)
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == expected


def test_an_initial_stride_shrinks_with_a_wide_first_layer():
    network = lively(initial_stride=2)
    assert network.conv_first.weight.shape[-2:] == (7, 7)
    assert network(torch.rand(1, 3, 12, 8)).shape == (1, 3, 24, 16)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_additive_modes(scale):
    x, plain = torch.rand(2, 3, 8, 8), lively(scale=scale)
    detail = plain(x)
    for mode, kernel in (("additive", "bilinear"), ("bicubic", "bicubic")):
        network = lively(scale=scale, additive_mode=mode)
        torch.testing.assert_close(network(x) - detail, interpolate(x, scale_factor=scale, mode=kernel))


@pytest.mark.parametrize("scale", [2, 4])
def test_enforced_blocks_keep_the_mean_of_the_bilinear_image(scale):
    x = torch.rand(2, 3, 8, 8)
    network, plain = lively(scale=scale, additive_mode="additive_enforced"), lively(scale=scale)
    bilinear = interpolate(x, scale_factor=scale, mode="bilinear")
    y, detail = network(x), plain(x)
    torch.testing.assert_close(avg_pool2d(y, scale), avg_pool2d(bilinear, scale))
    blocks = avg_pool2d(detail, scale).repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    torch.testing.assert_close(y - bilinear, detail - blocks)


def test_bicubic_starts_near_bicubic():
    torch.manual_seed(0)
    x = torch.rand(1, 3, 16, 16)
    y = RRDBNet(in_nc=3, out_nc=3, nf=32, nb=3, scale=2, additive_mode="bicubic")(x)
    assert (y - interpolate(x, scale_factor=2, mode="bicubic")).abs().max() < 0.01


@pytest.mark.parametrize("options", [{}, {"scale": 8}, {"scale": 1, "unshuffle": True}, {"additive_mode": "bicubic"}])
def test_gradients_reach_every_parameter(options):
    network = lively(**options)
    network(torch.rand(1, 3, 8, 8)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scale": 3}, "enlarges 1, 2, 4 or 8 times; scale 3 is none of these"),
        ({"scale": 16}, "enlarges 1, 2, 4 or 8 times; scale 16 is none of these"),
        ({"scale": 4, "unshuffle": True}, "'unshuffle' is for scale 1 and 2; at scale 4 there is nothing to fold"),
        ({"scale": 2, "unshuffle": True, "initial_stride": 2}, "keep one of them"),
        ({"initial_stride": 2, "additive_mode": "additive"}, "additive_mode 'additive' needs initial_stride 1"),
        ({"out_nc": 1, "additive_mode": "bicubic"}, "as many channels out as in; in_nc 3, out_nc 1"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        lively(**options)
