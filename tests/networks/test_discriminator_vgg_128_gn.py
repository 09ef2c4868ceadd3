"""The ancestor's VGG discriminator, against its names, shapes and arithmetic."""

import pytest
import torch
from torch.nn.functional import conv2d, group_norm, leaky_relu, linear

from gradloom.networks.discriminator_vgg_128_gn import DiscriminatorVGGGN


def ancestors_shapes(in_nc, nf, image_size, extra_conv):
    """Name and shape of every weight in a file that the ancestor saved."""
    widths = [nf, 2 * nf, 4 * nf, 8 * nf, 8 * nf, 8 * nf][: 6 if extra_conv else 5]
    shapes = {"conv0_0.bias": (nf,)}
    for i, (before, width) in enumerate(zip([in_nc, *widths], widths, strict=False)):
        shapes |= {f"conv{i}_0.weight": (width, before, 3, 3), f"conv{i}_1.weight": (width, width, 4, 4)}
        for norm in (f"bn{i}_0", f"bn{i}_1") if i else ("bn0_1",):
            shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    side = image_size // (64 if extra_conv else 32)
    shapes |= {"linear1.weight": (100, 8 * nf * side * side), "linear1.bias": (100,)}
    return shapes | {"linear2.weight": (1, 100), "linear2.bias": (1,)}


def restated(weights, x, num_pairs):
    """The logits, as one function of the weights."""
    for i in range(num_pairs):
        for j, (stride, bias) in enumerate([(1, weights.get(f"conv{i}_0.bias")), (2, None)]):
            x = conv2d(x, weights[f"conv{i}_{j}.weight"], bias, stride, 1)
            if (i, j) != (0, 0):
                x = group_norm(x, 8, weights[f"bn{i}_{j}.weight"], weights[f"bn{i}_{j}.bias"])
            x = leaky_relu(x, 0.2)
    x = leaky_relu(linear(x.flatten(1), weights["linear1.weight"], weights["linear1.bias"]), 0.2)
    return linear(x, weights["linear2.weight"], weights["linear2.bias"])


@pytest.mark.parametrize(("size", "extra_conv"), [(32, False), (64, True), (96, False), (128, False), (128, True)])
def test_names_shapes_and_arithmetic_are_the_ancestors(size, extra_conv):
    torch.manual_seed(0)
    network = DiscriminatorVGGGN(in_nc=3, nf=8, image_size=size, extra_conv=extra_conv)
    shapes = ancestors_shapes(3, 8, size, extra_conv)
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == shapes
    weights = {name: 0.1 * torch.randn(shape) for name, shape in shapes.items()}
    network.load_state_dict(weights)
    x = torch.rand(2, 3, size, size)
    torch.testing.assert_close(network(x), restated(weights, x, 6 if extra_conv else 5))


def test_gradients_reach_every_parameter():
    network = DiscriminatorVGGGN(in_nc=3, nf=8, image_size=64, extra_conv=True)
    network(torch.rand(2, 3, 64, 64)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


@pytest.mark.parametrize(("size", "extra_conv", "factor"), [(48, False, 32), (96, True, 64)])
def test_sizes_that_do_not_halve_evenly_are_refused(size, extra_conv, factor):
    with pytest.raises(ValueError, match=f"image_size {size} does not halve . times; write a multiple of {factor}"):
        DiscriminatorVGGGN(in_nc=3, nf=8, image_size=size, extra_conv=extra_conv)


def test_images_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"expected images of shape \(B, 3, 32, 32\), got \(1, 1, 32, 32\)"):
        DiscriminatorVGGGN(in_nc=3, nf=8, image_size=32)(torch.rand(1, 1, 32, 32))
