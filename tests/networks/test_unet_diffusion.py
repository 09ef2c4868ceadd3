"""The diffusion U-Net: its names, its parts against formulas, and what it refuses."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gradloom.networks._timed_blocks import Attention, Residual, embedded, group_norm, halved
from gradloom.networks.unet_diffusion import UNetDiffusion

SMALL = {
    "image_size": 8, "in_channels": 3, "model_channels": 8, "out_channels": 6, "num_res_blocks": 1,
    "attention_resolutions": [2], "channel_mult": [1, 2], "num_corruptions": 2, "num_heads": 2,
}  # fmt: skip


def unet(seed=0, **more):
    torch.manual_seed(seed)
    network = UNetDiffusion(**{**SMALL, **more}).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network


def inputs(size=2, pixels=8):
    torch.manual_seed(1)
    x, low_res = torch.randn(size, 3, pixels, pixels), torch.randn(size, 3, pixels // 2, pixels // 2)
    return x.double(), torch.tensor([3, 700])[:size], low_res.double(), torch.rand(size, 2).double()


def test_names_of_weights_are_guided_diffusions():
    names = {
        name.rsplit(".", 1)[0]: parameter.shape for name, parameter in unet().named_parameters() if "weight" in name
    }
    assert names == {
        "time_embed.0": (32, 8), "time_embed.2": (32, 32),
        "input_blocks.0.0": (8, 8, 3, 3),
        "input_blocks.1.0.in_layers.0": (8,), "input_blocks.1.0.in_layers.2": (8, 8, 3, 3),
        "input_blocks.1.0.emb_layers.1": (8, 32),
        "input_blocks.1.0.out_layers.0": (8,), "input_blocks.1.0.out_layers.3": (8, 8, 3, 3),
        "input_blocks.2.0.op": (8, 8, 3, 3),
        "input_blocks.3.0.in_layers.0": (8,), "input_blocks.3.0.in_layers.2": (16, 8, 3, 3),
        "input_blocks.3.0.emb_layers.1": (16, 32),
        "input_blocks.3.0.out_layers.0": (16,), "input_blocks.3.0.out_layers.3": (16, 16, 3, 3),
        "input_blocks.3.0.skip_connection": (16, 8, 1, 1),
        "input_blocks.3.1.norm": (16,), "input_blocks.3.1.qkv": (48, 16, 1), "input_blocks.3.1.proj_out": (16, 16, 1),
        **{
            f"middle_block.{place}.{name}": shape
            for place in (0, 2)
            for name, shape in {
                "in_layers.0": (16,), "in_layers.2": (16, 16, 3, 3), "emb_layers.1": (16, 32),
                "out_layers.0": (16,), "out_layers.3": (16, 16, 3, 3),
            }.items()
        },
        "middle_block.1.norm": (16,), "middle_block.1.qkv": (48, 16, 1), "middle_block.1.proj_out": (16, 16, 1),
        **{
            f"output_blocks.{place}.0.{name}": shape
            for place, in_, out in ((0, 32, 16), (1, 24, 16), (2, 24, 8), (3, 16, 8))
            for name, shape in {
                "in_layers.0": (in_,), "in_layers.2": (out, in_, 3, 3), "emb_layers.1": (out, 32),
                "out_layers.0": (out,), "out_layers.3": (out, out, 3, 3), "skip_connection": (out, in_, 1, 1),
            }.items()
        },
        **{
            f"output_blocks.{place}.1.{name}": shape
            for place in (0, 1)
            for name, shape in {"norm": (16,), "qkv": (48, 16, 1), "proj_out": (16, 16, 1)}.items()
        },
        "output_blocks.1.2.conv": (16, 16, 3, 3),
        "out.0": (8,), "out.2": (6, 8, 3, 3),
    }  # fmt: skip


def test_at_first_it_returns_zeros():
    torch.manual_seed(0)
    network = UNetDiffusion(**SMALL).double()
    assert not network(*inputs()).any()
    network.out[2].weight.data.fill_(1.0)
    assert network(*inputs()).any()


def test_the_embedding_is_that_of_the_paper():
    found = embedded(torch.tensor([0, 3, 999]), 7)
    for row, t in zip(found, (0, 3, 999), strict=True):
        angles = [t * 10000 ** (-i / 3) for i in range(3)]
        expected = [*map(math.cos, angles), *map(math.sin, angles), 0.0]
        assert row.tolist() == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize(
    ("channels", "groups"), [(8, 8), (16, 8), (32, 16), (48, 16), (64, 16), (96, 32), (20, 4), (192, 32)]
)
def test_groups_are_the_ancestors(channels, groups):
    assert group_norm(channels).num_groups == groups


def test_group_norm_is_computed_in_float32():
    layer = group_norm(8).bfloat16()
    layer.float()
    x = torch.randn(2, 8, 3, 3).bfloat16() * 100
    torch.testing.assert_close(layer(x), F.group_norm(x.float(), 8).bfloat16(), rtol=0, atol=0)


def noisy(module):
    torch.manual_seed(2)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.double()


@pytest.mark.parametrize("chunked", [False, True])
def test_attention_by_its_formula_in_both_orders(chunked):
    block = noisy(Attention(8, 2, chunked))
    x = torch.randn(2, 8, 2, 3, dtype=torch.float64)
    flat = F.group_norm(x.flatten(2), 8, block.norm.weight, block.norm.bias)
    weight, bias = block.qkv.weight[:, :, 0], block.qkv.bias
    everything = torch.einsum("oc,bcp->bop", weight, flat) + bias[:, None]
    heads = []
    for head in range(2):
        if chunked:  # all queries, all keys, all values
            q, k, v = (everything[:, 8 * place + 4 * head : 8 * place + 4 * head + 4] for place in range(3))
        else:  # of each head queries, keys and values
            q, k, v = (everything[:, 12 * head + 4 * place : 12 * head + 4 * place + 4] for place in range(3))
        weights = torch.einsum("bcp,bcq->bpq", q, k).div(math.sqrt(4)).softmax(-1)
        heads.append(torch.einsum("bpq,bcq->bcp", weights, v))
    expected = (
        torch.einsum("oc,bcp->bop", block.proj_out.weight[:, :, 0], torch.cat(heads, 1)) + block.proj_out.bias[:, None]
    )
    torch.testing.assert_close(block(x), x + expected.reshape(x.shape))


@pytest.mark.parametrize("modulates", [False, True])
@pytest.mark.parametrize("resize", [None, halved])
def test_a_residual_block_by_its_formula(modulates, resize):
    block = noisy(Residual(4, 8, 5, 0.0, modulates, resize))
    x, told = torch.randn(2, 4, 4, 4, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)
    smaller = (lambda y: F.avg_pool2d(y, 2)) if resize else (lambda y: y)
    first, last = block.in_layers[2], block.out_layers[3]
    inner = F.silu(F.group_norm(x, 4, block.in_layers[0].weight, block.in_layers[0].bias))
    inner = F.conv2d(smaller(inner), first.weight, first.bias, padding=1)
    added = F.linear(F.silu(told), block.emb_layers[1].weight, block.emb_layers[1].bias)[:, :, None, None]
    norm = block.out_layers[0]
    if modulates:
        inner = F.group_norm(inner, 8, norm.weight, norm.bias) * (1 + added[:, :8]) + added[:, 8:]
    else:
        inner = F.group_norm(inner + added, 8, norm.weight, norm.bias)
    inner = F.conv2d(F.silu(inner), last.weight, last.bias, padding=1)
    expected = F.conv2d(smaller(x), block.skip_connection.weight, block.skip_connection.bias) + inner
    torch.testing.assert_close(block(x, told), expected)


def test_the_whole_is_its_blocks_with_every_size_passed_across():
    network = unet()
    x, t, low_res, factors = inputs()
    larger = F.interpolate(low_res, (8, 8), mode="bilinear")
    planes = factors[:, :, None, None].expand(-1, -1, 8, 8)
    told = network.time_embed(embedded(t, 8).double())
    down = network.input_blocks
    first = down[0][0](torch.cat([x, larger, planes], 1))
    second = down[1][0](first, told)
    third = down[2][0].op(second)
    fourth = down[3][1](down[3][0](third, told))
    middle = network.middle_block
    deep = middle[2](middle[1](middle[0](fourth, told)), told)
    up = network.output_blocks
    y = up[0][1](up[0][0](torch.cat([deep, fourth], 1), told))
    y = up[1][1](up[1][0](torch.cat([y, third], 1), told))
    y = up[1][2].conv(F.interpolate(y, scale_factor=2, mode="nearest"))
    y = up[2][0](torch.cat([y, second], 1), told)
    y = up[3][0](torch.cat([y, first], 1), told)
    torch.testing.assert_close(network(x, t, low_res, factors), network.out(y))


def test_how_it_may_be_built():
    x, t, low_res, factors = inputs()
    for more in (
        {"resblock_updown": True}, {"conv_resample": False}, {"use_scale_shift_norm": True},
        {"num_head_channels": 4}, {"num_heads_upsample": 4}, {"use_new_attention_order": True}, {"dropout": 0.5},
    ):  # fmt: skip
        assert unet(**more)(x, t, low_res, factors).shape == (2, 6, 8, 8)
    assert unet(num_head_channels=4).middle_block[1].heads == 4
    assert unet(num_heads_upsample=4).output_blocks[0][1].heads == 4
    assert not any("op" in name for name, _ in unet(conv_resample=False).named_parameters())


def test_without_corruption_factors_there_is_no_corruption():
    network = unet()
    x, t, low_res, factors = inputs()
    assert network(x, t, low_res).equal(network(x, t, low_res, factors * 0))
    assert not network(x, t, low_res).equal(network(x, t, low_res, factors))


def test_the_condition_may_be_left_out_and_is_for_some_samples_of_training():
    network = unet(unconditioned_percentage=0.5)
    x, t, low_res, factors = inputs()
    free = network(x, t, conditioning_free=True)
    assert free.equal(network(x, t, low_res, factors, conditioning_free=True))
    given = network.eval()(x, t, low_res, factors)
    network.train()
    torch.manual_seed(0)
    found = set()
    for _ in range(20):
        for i, result in enumerate(network(x, t, low_res, factors)):
            is_free = torch.allclose(result, free[i])
            assert is_free or torch.allclose(result, given[i])
            found.add(is_free)
    assert found == {True, False}


def test_classes_and_embeddings_are_added_to_the_time():
    x, t, low_res, factors = inputs()
    network = unet(num_classes=4)
    told = []
    network.middle_block.register_forward_pre_hook(lambda _, args: told.append(args[1]))
    network(x, t, low_res, factors, y=torch.tensor([1, 3]))
    plain = network.time_embed(embedded(t, 8).double())
    torch.testing.assert_close(told[0], plain + network.label_emb.weight[[1, 3]])
    raw = unet(use_raw_y_as_embedding=True)
    y = torch.randn(2, 32, dtype=torch.float64)
    raw.middle_block.register_forward_pre_hook(lambda _, args: told.append(args[1]))
    raw(x, t, low_res, factors, y=y)
    torch.testing.assert_close(told[1], raw.time_embed(embedded(t, 8).double()) + y)


def test_gradients_reach_every_parameter():
    network = unet(use_scale_shift_norm=True)
    network(*inputs()).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


def test_other_sizes_than_it_was_made_for():
    network = unet()
    assert network(*inputs(pixels=12)).shape == (2, 6, 12, 12)
    with pytest.raises(ValueError, match="height and width have to be multiples of 2"):
        network(torch.zeros(1, 3, 7, 8).double(), torch.zeros(1), torch.zeros(1, 3, 4, 4).double())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 9}, "'image_size' 9 does not divide by 2, which 2 'channel_mult' ask for"),
        ({"attention_resolutions": [4]}, r"'attention_resolutions' are factors .*, \[1, 2\] here; 4 is none"),
        ({"channel_mult": []}, "'channel_mult' is an empty list"),
        ({"use_fp16": True}, "'use_fp16' is the whole run's; write 'precision: fp16' at the top instead"),
        ({"num_classes": 3, "use_raw_y_as_embedding": True}, "'num_classes' and 'use_raw_y_as_embedding' say what y"),
        ({"num_heads": 3}, "'num_heads' 3 does not divide 16 channels"),
        ({"num_head_channels": 3}, "'num_head_channels' 3 does not divide 16 channels"),
        ({"model_channels": 6}, "'model_channels' has to be a multiple of 4"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        UNetDiffusion(**{**SMALL, **options})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"low_res": None}, "unet_diffusion needs 'low_res' among its inputs, or 'conditioning_free: true'"),
        ({"corruption_factor": torch.zeros(2, 3)}, r"'corruption_factor' has to be \(2, 2\), .* got \(2, 3\)"),
        ({"y": torch.zeros(2, 32)}, "has no use for 'y'; write 'num_classes' or 'use_raw_y_as_embedding'"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(change, message):
    x, t, low_res, factors = inputs()
    with pytest.raises(ValueError, match=message):
        unet()(x, t, **({"low_res": low_res, "corruption_factor": factors} | change))
    with pytest.raises(ValueError, match="unet_diffusion needs 'y'"):
        unet(num_classes=2)(x, t, low_res, factors)
