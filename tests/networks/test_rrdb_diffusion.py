"""ESRGAN's blocks as a diffusion's network, by their formulas."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gradloom.networks._timed_blocks import embedded
from gradloom.networks.rrdb_diffusion import RRDBDiffusion


def network(in_channels=8, seed=0):
    torch.manual_seed(seed)
    made = RRDBDiffusion(in_channels, 6, mid_channels=8, num_blocks=1, growth_channels=4).double()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.2)
    return made


def inputs():
    torch.manual_seed(1)
    x, low_res = torch.randn(2, 3, 8, 8).double(), torch.randn(2, 3, 4, 4).double()
    return x, torch.tensor([3, 700]), low_res, torch.rand(2, 2).double()


def conv(layer, x, stride=1):
    return F.conv2d(x, layer.weight, layer.bias, stride, layer.kernel_size[0] // 2)


def relu(x):
    return F.leaky_relu(x, 0.2)


def dense(block, x, first):
    one = relu(conv(block.conv1, first))
    two = relu(conv(block.conv2, torch.cat((x, one), 1)))
    three = relu(conv(block.conv3, torch.cat((x, one, two), 1)))
    four = relu(conv(block.conv4, torch.cat((x, one, two, three), 1)))
    return x + 0.2 * conv(block.conv5, torch.cat((x, one, two, three, four), 1))


def test_the_whole_by_its_formula():
    net = network()
    x, t, low_res, factors = inputs()
    told = net.time_embed(embedded(t, 8).double())
    planes = factors[:, :, None, None].expand(-1, -1, 8, 8)
    seen = torch.cat([x, F.interpolate(low_res, (8, 8), mode="bilinear"), planes], 1)
    whole = relu(conv(net.input_block.conv, seen))
    half = relu(conv(net.down1.conv, whole, 2))
    y = relu(conv(net.down2.conv, half, 2))
    block = net.body[0]
    added = F.linear(F.silu(told), block.rdb1.emb_layers[1].weight, block.rdb1.emb_layers[1].bias)
    inner = dense(block.rdb1, y, relu(conv(block.rdb1.first_conv.conv, y)) + added[:, :, None, None])
    inner = dense(block.rdb2, inner, inner)
    y = y + block.residual_mult * dense(block.rdb3, inner, inner)
    y = relu(conv(net.conv_up1, F.interpolate(conv(net.conv_body, y), scale_factor=2)))
    y = relu(conv(net.conv_up2, F.interpolate(torch.cat([y, half], 1), scale_factor=2)))
    expected = conv(net.conv_last, relu(conv(net.conv_hr, torch.cat([y, whole], 1))))
    torch.testing.assert_close(net(x, t, low_res, factors), expected)


def test_names_of_weights_are_the_ancestors():
    names = {name.removesuffix(".weight") for name, _ in network().named_parameters() if not name.endswith("bias")}
    dense_layers = {f"body.0.{rdb}.conv{i}" for rdb in ("rdb1", "rdb2", "rdb3") for i in range(1, 6)}
    others = {
        "input_block.conv", "down1.conv", "down2.conv", "time_embed.0", "time_embed.2", "body.0.rdb1.first_conv.conv",
        "body.0.rdb1.emb_layers.1", "body.0.residual_mult", "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last",
    }  # fmt: skip
    assert names == dense_layers | others


def test_at_first_it_returns_zeros_and_its_blocks_add_nothing():
    torch.manual_seed(0)
    net = RRDBDiffusion(6, 3, mid_channels=8, num_blocks=2, growth_channels=4).double()
    x, t, low_res, _ = inputs()
    assert not net(x, t, low_res).any()
    features, told = torch.randn(2, 8, 4, 4).double(), torch.randn(2, 32).double()
    torch.testing.assert_close(net.body[0](features, told), features * 1.1)


def test_gradients_reach_every_parameter():
    net = network()
    net(*inputs()).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


def test_inputs_that_do_not_fit_are_refused():
    x, t, low_res, factors = inputs()
    with pytest.raises(ValueError, match=r"'in_channels' is 8, but x, low_res and factors have 3 \+ 3 channels"):
        network()(x, t, low_res)
    with pytest.raises(ValueError, match="multiples of 4"):
        network()(x[:, :, :6], t, low_res, factors)
