"""SegFormer: sizes as in the paper's tables, attention against the plain formula, and what may be asked of it."""

import pytest
import torch
from torch import nn

from gradloom.networks.segformer import Attention, Block, Mix, SegFormer

MILLIONS = {  # table 1a: encoder, decoder, with ADE20K's 150 classes
    "b0": (3.4, 0.4), "b1": (13.1, 0.6), "b2": (24.2, 3.3), "b3": (44.0, 3.3), "b4": (60.8, 3.3), "b5": (81.4, 3.3),
}  # fmt: skip


def millions(module):
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


@pytest.mark.parametrize("size", MILLIONS)
def test_parameters_are_as_many_as_in_the_papers_table(size):
    with torch.device("meta"):
        network = SegFormer(size, num_classes=150)
    encoder, decoder = MILLIONS[size]
    assert millions(network.stages) == pytest.approx(encoder, abs=0.09)  # the paper's 3.4 of b0 is 3.32 here
    assert millions(network) - millions(network.stages) == pytest.approx(decoder, abs=0.06)


@pytest.mark.parametrize("sides", [(64, 96), (33, 50)])
def test_maps_have_a_quarter_to_a_thirty_second_of_the_size(sides):
    network = SegFormer("b0", num_classes=5).eval()
    x = torch.rand(2, 3, *sides)
    expected = [
        (2, width, *(-(-side // stride) for side in sides))
        for width, stride in ((32, 4), (64, 8), (160, 16), (256, 32))
    ]
    assert [tuple(made.shape) for made in network.maps(x)] == expected
    assert network(x).shape == (2, 5, *expected[0][2:])


def test_without_classes_it_returns_what_the_tail_makes():
    network = SegFormer("b0", decoder_channels=24, channels=1).eval()
    seen = []
    network.get_submodule("tail").register_forward_hook(lambda module, inputs, output: seen.append(output))
    out = network(torch.rand(1, 1, 32, 32))
    assert torch.equal(out, seen[0])
    assert out.shape == (1, 24, 8, 8)
    assert (out >= 0).all()


def plain_attention(attention, x, squares):
    """Softmax(Q K^T / sqrt(d)) V of each head by loops; equation 1."""
    batch, width = len(x), x.shape[-1]
    queries = attention.query(x).reshape(batch, -1, width)
    keys, values = attention.key_value(squares).reshape(batch, -1, 2 * width).split(width, 2)
    size = width // attention.heads
    made = []
    for head in range(attention.heads):
        own = slice(head * size, (head + 1) * size)
        scores = (queries[..., own] @ keys[..., own].transpose(1, 2) / size**0.5).exp()
        made.append(scores / scores.sum(2, keepdim=True) @ values[..., own])
    return attention.out(torch.cat(made, 2).reshape(x.shape))


def test_without_reduction_attention_is_the_plain_one():
    attention, x = Attention(12, heads=3, reduction=1).double(), torch.randn(2, 4, 5, 12, dtype=torch.float64)
    assert attention.reduce is None
    torch.testing.assert_close(attention(x), plain_attention(attention, x, x))


def test_it_is_nn_multihead_attention_too():
    attention, x = Attention(12, heads=3, reduction=1).double(), torch.randn(2, 4, 5, 12, dtype=torch.float64)
    theirs = nn.MultiheadAttention(12, 3, batch_first=True).double()
    theirs.in_proj_weight.data = torch.cat([attention.query.weight, attention.key_value.weight]).detach()
    theirs.in_proj_bias.data = torch.cat([attention.query.bias, attention.key_value.bias]).detach()
    theirs.out_proj = attention.out
    tokens = x.reshape(2, 20, 12)
    torch.testing.assert_close(attention(x).reshape(2, 20, 12), theirs(tokens, tokens, tokens)[0])


def test_with_reduction_it_looks_at_squares():
    attention, x = Attention(8, heads=2, reduction=2).double(), torch.randn(2, 4, 6, 8, dtype=torch.float64)
    squares = torch.zeros(2, 2, 3, 8, dtype=torch.float64)
    for row in range(2):
        for column in range(3):
            square = x[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            squares[:, row, column] = torch.einsum("bijc,ocij->bo", square, attention.reduce.weight)
    squares = attention.norm(squares + attention.reduce.bias)
    torch.testing.assert_close(attention(x), plain_attention(attention, x, squares))


def test_mixing_is_equation_three():
    mix, x = Mix(4, 6).double(), torch.randn(1, 5, 5, 4, dtype=torch.float64)
    wide = torch.zeros(1, 7, 7, 6, dtype=torch.float64)
    wide[:, 1:-1, 1:-1] = mix.widen(x)  # with zeros around
    seen = (
        sum(wide[:, i : i + 5, j : j + 5] * mix.neighbours.weight[:, 0, i, j] for i in range(3) for j in range(3))
        + mix.neighbours.bias
    )
    torch.testing.assert_close(mix(x), mix.narrow(nn.functional.gelu(seen)))


def test_a_block_adds_to_its_input_and_may_be_left_out():
    block, x = Block(8, 2, 1, chance=0.5), torch.randn(400, 2, 2, 8)
    out = block.eval()(x)
    middle = x + block.attention(block.norm_attention(x))
    torch.testing.assert_close(out, middle + block.mix(block.norm_mix(middle)))
    torch.manual_seed(0)
    kept = (block.train()(x) == x).flatten(1).all(1).float().mean()
    assert 0.15 < kept < 0.35  # both ways are left out


def test_chances_to_be_left_out_rise_evenly():
    network = SegFormer("b0", drop_path=0.35)
    chances = [block.drop.p for stage in network.stages for block in stage.blocks]
    assert chances == pytest.approx([0.05 * i for i in range(8)])


def test_gradients_reach_every_parameter_and_the_first_output_is_of_order_one():
    torch.manual_seed(0)
    network = SegFormer("b0", num_classes=3, drop_path=0)
    out = network(torch.randn(2, 3, 64, 64))
    assert 0.01 < out.std() < 100
    out.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


def test_small_images_are_refused():
    with pytest.raises(ValueError, match=r"segformer takes images of 32 pixels a side or more, got \(1, 3, 32, 31\)"):
        SegFormer("b0")(torch.rand(1, 3, 32, 31))
