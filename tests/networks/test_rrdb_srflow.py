"""SRFlow's RRDB network and the wrapper around it, layer by layer."""

import pytest
import torch
from torch.nn.functional import group_norm, interpolate, leaky_relu

from gradloom.networks._rrdb import Bypassed
from gradloom.networks.rrdb_latent_wrapper import RRDBLatentWrapper
from gradloom.networks.rrdb_srflow import RRDBSRFlow
from gradloom.networks.RRDBNet import RRDBNet


def lively(network):
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network.double()


@pytest.mark.parametrize(("scale", "stride", "size"), [(2, 1, 12), (4, 2, 12), (8, 1, 48)])
def test_it_enlarges_by_a_layer_for_each_doubling(scale, stride, size):
    network = lively(RRDBSRFlow(3, 2, 4, 1, scale, stride, gc=2))
    x = torch.rand(1, 3, 6, 6).double()
    body = network.body[0](network.conv_first(x))
    features = body + network.conv_body(body)
    for place in range({2: 1, 4: 2, 8: 3}[scale]):
        features = network.get_submodule(f"conv_up{place + 1}")(interpolate(features, scale_factor=2))
        features = leaky_relu(features, 0.2)
    expected = network.conv_last(leaky_relu(network.conv_hr(features), 0.2))
    assert expected.shape == (1, 2, size, size)
    torch.testing.assert_close(network(x), expected)


def test_a_bypass_weighs_what_a_block_adds():
    block, x = lively(Bypassed(16, 2)), torch.rand(1, 16, 5, 5).double()
    detail = block.rdb3(block.rdb2(block.rdb1(x)))
    first, second, third, _ = block.bypass
    made = first.conv(torch.cat([x, detail], 1))
    made = torch.nn.functional.silu(group_norm(made, 8, first.gn.weight, first.gn.bias))
    weight = torch.sigmoid(third.conv(torch.nn.functional.silu(second.conv(made))))
    torch.testing.assert_close(block(x), x + 0.2 * weight * detail)


def test_latents_are_mixed_from_the_blocks_and_the_trunk():
    network, x = lively(RRDBLatentWrapper(3, 3, 8, 2, [1], gc=2)), torch.rand(1, 3, 6, 6).double()
    rrdb = network.wrappedRRDB
    block = rrdb.body[1](rrdb.body[0](rrdb.conv_first(x)))
    made = torch.cat([block, block + rrdb.conv_body(block)], 1)
    for layer in network.postprocess[:2]:
        made = leaky_relu(group_norm(layer.conv(made), 8, layer.gn.weight, layer.gn.bias), 0.2)
    torch.testing.assert_close(network(x), network.postprocess[2].conv(made))
    assert {name.split(".", 2)[2] for name in network.state_dict() if name.startswith("post")} == {
        "conv.weight", "conv.bias", "gn.weight", "gn.bias",
    }  # fmt: skip


def test_it_takes_the_weights_of_rrdbnet_and_of_esrgans_first_release():
    network = RRDBSRFlow(3, 3, 4, 2, 4, gc=2)
    own = network.state_dict()
    assert {*own} == {*RRDBNet(3, 3, 4, 2, 4, gc=2).state_dict()}
    first = {
        "conv_first.bias": "conv_first.bias",
        "RRDB_trunk.1.RDB2.conv5.weight": "body.1.rdb2.conv5.weight",
        "trunk_conv.weight": "conv_body.weight",
        "upconv2.bias": "conv_up2.bias",
        "HRconv.weight": "conv_hr.weight",
    }
    assert network.adopt({then: own[now] for then, now in first.items()}).keys() == {*first.values()}


@pytest.mark.parametrize(
    ("blocks", "nf", "said"), [([2], 8, "names block 2; there are 2"), ([0], 6, "latents of 12 channels")]
)
def test_latents_that_cannot_be_are_refused(blocks, nf, said):
    with pytest.raises(ValueError, match=said):
        RRDBLatentWrapper(3, 3, nf, 2, blocks)
