"""The simplified StyleGAN2, its augmentations and its attention, against formulas written out."""

import math

import pytest
import scipy.ndimage
import torch
from torch.nn.functional import conv2d, interpolate, leaky_relu

from gradloom.networks._diffaugment import augment, color, cutout, translation
from gradloom.networks._linear_attention import attention
from gradloom.networks._stylegan2_plain import Blur, Modulated
from gradloom.networks.stylegan2_discriminator import PlainStyleGAN2Discriminator
from gradloom.networks.stylegan2_lucidrains import PlainStyleGAN2Generator


def rand(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def test_blur_is_a_binomial_filter_mirrored_at_the_edges():
    x = rand(2, 3, 5, 6)
    kernel = torch.tensor([[1, 2, 1], [2, 4, 2], [1, 2, 1]]).double() / 16
    expected = scipy.ndimage.convolve(x.numpy(), kernel[None, None].numpy(), mode="mirror")
    torch.testing.assert_close(Blur().double()(x), torch.from_numpy(expected))


@pytest.mark.parametrize("demodulate", [True, False])
def test_modulation_scales_each_samples_weights_by_one_and_its_style(demodulate):
    torch.manual_seed(0)
    layer, x, style = Modulated(3, 5, 3, demodulate).double(), rand(2, 3, 6, 7), rand(2, 3)
    expected = []
    for image, one in zip(x, style, strict=True):
        weight = layer.weight * (one + 1)[None, :, None, None]
        if demodulate:
            weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        expected.append(conv2d(image[None], weight, padding=1))
    torch.testing.assert_close(layer(x, style), torch.cat(expected))


def small(**options):
    torch.manual_seed(0)
    made = PlainStyleGAN2Generator(
        **{"image_size": 8, "latent_dim": 4, "style_depth": 2, "network_capacity": 2, **options}
    ).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def test_the_generator_computes_what_the_ancestors_did():
    network, x = small(), rand(3, 2, 8, 8)
    torch.manual_seed(1)
    image, styles = network(x)
    weights = network.state_dict()

    def linear(name, y):
        return y @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def block(name, y, w, larger):
        y = interpolate(y, scale_factor=2, mode="bilinear") if larger else y
        for i in (1, 2):
            size = y.shape[2]
            noise = linear(f"{name}.to_noise{i}", x[:, 0, :size, :size, None]).permute(0, 3, 1, 2)
            layer = network.gen.get_submodule(f"{name.removeprefix('gen.')}.conv{i}")
            y = leaky_relu(layer(y, linear(f"{name}.to_style{i}", w)) + noise, 0.2)
        return y

    def rgb(name, y, w):
        scales = linear(f"{name}.to_rgb.to_style", w) + 1
        return torch.einsum("oi,bi,bihw->bohw", weights[f"{name}.to_rgb.conv.weight"][:, :, 0, 0], scales, y)

    y = weights["gen.initial_block"].expand(3, -1, -1, -1)
    y = conv2d(y, weights["gen.initial_conv.weight"], weights["gen.initial_conv.bias"], padding=1)
    y = block("gen.blocks.0", y, styles[:, 0], larger=False)
    first = interpolate(rgb("gen.blocks.0", y, styles[:, 0]), scale_factor=2, mode="bilinear")
    y = block("gen.blocks.1", y, styles[:, 1], larger=True)
    assert styles.shape == (3, 2, 4)
    torch.testing.assert_close(image, Blur().double()(first) + rgb("gen.blocks.1", y, styles[:, 1]))


def test_styles_are_of_one_latent_or_mixed_of_two():
    network = small(image_size=32, network_capacity=1)
    noise = torch.rand(400, 1, 32, 32, dtype=torch.float64)
    torch.manual_seed(1)
    _, styles = network(noise)
    torch.manual_seed(1)
    latents = torch.randn(2, 400, 4, dtype=torch.float64)
    ws = [z / z.norm(dim=1, keepdim=True) for z in latents]
    for i in (0, 2):
        layer = network.vectorizer.net[i]
        ws = [leaky_relu(w @ layer.weight.T * 0.1 + layer.bias * 0.1, 0.2) for w in ws]
    is_first, is_second = (((styles - w[:, None]).abs() < 1e-9).all(2) for w in ws)
    assert (is_first ^ is_second).all()
    counts = is_first.sum(1)
    for sample in range(400):
        assert is_first[sample, : counts[sample]].all()
    shares = counts.bincount(minlength=5) / 400
    expected = torch.tensor([0.225, 0.225, 0.225, 0.225, 0.1])  # a tenth has one latent; crossovers are as likely
    torch.testing.assert_close(shares, expected, rtol=0, atol=0.07)


def test_attention_is_efficient_attention_faded_in():
    torch.manual_seed(0)
    layer, x = attention(4).double(), rand(2, 4, 3, 5)
    torch.testing.assert_close(layer(x), x)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    inner = layer[0].fn.fn
    q, k, v = (conv2d(x, one.weight, one.bias).reshape(2, 8, 64, 15) for one in (inner.to_q, inner.to_k, inner.to_v))
    q, k = q / 64**0.25, k / 64**0.25
    pixels = k.exp() / k.exp().sum(3, keepdim=True)
    widths = q.exp() / q.exp().sum(2, keepdim=True)
    weight = torch.einsum("bhdn,bhdm->bhnm", widths, pixels)  # of pixel m for pixel n
    found = torch.einsum("bhnm,bhem->bhen", weight, v).reshape(2, 512, 3, 5)
    expected = x + layer[0].fn.g * conv2d(found, inner.to_out.weight, inner.to_out.bias)
    torch.testing.assert_close(layer[0](x), expected)


def test_color_keeps_what_its_three_changes_keep():
    torch.manual_seed(0)
    x = torch.rand(500, 3, 4, 4, dtype=torch.float64)
    y = color(x)
    shift = y.mean((1, 2, 3)) - x.mean((1, 2, 3))
    assert shift.min() < -0.45 and shift.max() > 0.45 and shift.abs().max() <= 0.5
    grey, before = y.mean(1), x.mean(1)
    scale = (grey - grey.mean((1, 2), keepdim=True)) / (before - before.mean((1, 2), keepdim=True))
    torch.testing.assert_close(scale, scale[:, :1, :1].expand_as(scale))  # contrast
    assert scale.min() < 0.55 and scale.max() > 1.45 and scale.min() >= 0.5 and scale.max() <= 1.5
    hue = (y - y.mean(1, keepdim=True)) / (x - x.mean(1, keepdim=True)) / scale[:, None]
    torch.testing.assert_close(hue, hue[:, :1, :1, :1].expand_as(hue))  # saturation
    assert hue.min() < 0.1 and hue.max() > 1.9 and hue.min() >= 0 and hue.max() <= 2


def test_translation_moves_and_lets_zeros_in():
    torch.manual_seed(0)
    x, seen = rand(200, 2, 16, 8).abs() + 1, set()
    y = translation(x)
    for before, after in zip(x, y, strict=True):
        moves = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-1, 2)
            if torch.equal(after, moved(before, down, right))
        ]
        assert len(moves) == 1
        seen.update(moves)
    assert len(seen) == 15


def moved(image, down, right):
    wide = torch.nn.functional.pad(image, (8, 8, 8, 8))
    return wide[:, 8 + down : 24 + down, 8 + right : 16 + right]


def test_cutout_leaves_a_rectangle_of_half_the_sides_anywhere():
    torch.manual_seed(0)
    black = cutout(torch.ones(300, 1, 8, 8))[:, 0] == 0
    rows, columns = black.any(2), black.any(1)
    assert torch.equal(black, rows[:, :, None] & columns[:, None])
    for side in (rows, columns):
        lengths = side.sum(1)
        assert lengths.max() == 4 and lengths.min() == 2  # the middle may lie on an edge
        assert side.any(0).all()


def test_each_sample_is_augmented_or_not():
    torch.manual_seed(0)
    x = torch.rand(1000, 3, 4, 4, dtype=torch.float64)
    same = (augment(x, [], 0.6) == x).flatten(1).all(1).double().mean().item()
    assert same == pytest.approx(0.7, abs=0.05)  # those left as they are, and half of the others, not mirrored
    torch.testing.assert_close(augment(x, ["color", "translation", "cutout"], 0.0), x)
    z = x[:2].clone().requires_grad_()

    def seeded(value):
        torch.manual_seed(1)
        return augment(value, ["color", "translation", "cutout"], 1.0)

    assert torch.autograd.gradcheck(seeded, z)
    assert torch.autograd.gradgradcheck(seeded, z)


def judge(**options):
    torch.manual_seed(0)
    options = {"augmentation_types": ["color", "cutout"], "augmentation_probability": 0.5, **options}
    return PlainStyleGAN2Discriminator(**{"image_size": 8, "in_nc": 2, "network_capacity": 1, **options}).double()


def test_the_discriminator_computes_what_the_ancestors_did():
    network, x = judge().eval(), rand(3, 2, 8, 8)
    weights = network.state_dict()

    def conv(name, y, stride=1):
        weight = weights[f"D.{name}.weight"]
        return conv2d(y, weight, weights[f"D.{name}.bias"], stride, weight.shape[-1] // 2)

    y = x
    for i in range(3):
        inner = leaky_relu(conv(f"blocks.{i}.net.2", leaky_relu(conv(f"blocks.{i}.net.0", y), 0.2)), 0.2)
        if i < 2:
            inner = conv(f"blocks.{i}.downsample.1", Blur().double()(inner), 2)
        y = (inner + conv(f"blocks.{i}.conv_res", y, 2 if i < 2 else 1)) / math.sqrt(2)
    y = conv("final_conv", y).flatten(1)
    expected = y @ weights["D.to_logit.weight"][0] + weights["D.to_logit.bias"]
    torch.testing.assert_close(network(x), expected)
    network.train()
    torch.manual_seed(3)
    found = network(x)
    torch.manual_seed(3)
    torch.testing.assert_close(found, network.D(augment(x, ["color", "cutout"], 0.5)))
    assert network(x[:1]).shape == (1,)


def test_a_gradient_penalty_reaches_every_weight_of_the_discriminator():
    network, x = judge(attn_layers=[2]), rand(4, 2, 8, 8).requires_grad_()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    (slope,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
    slope.square().sum().backward()
    for name, parameter in network.named_parameters():
        if not name.endswith("to_logit.bias") and not name.endswith("bias"):
            assert parameter.grad is not None and parameter.grad.any(), name


def test_weights_have_the_ancestors_names():
    with torch.device("meta"):
        drawing = PlainStyleGAN2Generator(64, 512, 8, attn_layers=[1, 2]).state_dict()
        judging = PlainStyleGAN2Discriminator(64, 3, ["color"], 0.5, attn_layers=[1]).state_dict()
    assert {name: tuple(drawing[name].shape) for name in (
        "vectorizer.net.14.weight", "gen.initial_block", "gen.blocks.0.conv1.weight", "gen.blocks.4.to_noise2.weight",
        "gen.blocks.3.to_rgb.upsample.1.f", "gen.attns.4.0.fn.g", "gen.attns.3.1.fn.fn.2.weight",
    )} == {
        "vectorizer.net.14.weight": (512, 512), "gen.initial_block": (1, 512, 4, 4),
        "gen.blocks.0.conv1.weight": (512, 512, 3, 3), "gen.blocks.4.to_noise2.weight": (32, 1),
        "gen.blocks.3.to_rgb.upsample.1.f": (3,), "gen.attns.4.0.fn.g": (1,),
        "gen.attns.3.1.fn.fn.2.weight": (128, 256, 1, 1),
    }  # fmt: skip
    assert "gen.blocks.4.to_rgb.upsample.1.f" not in drawing and "gen.attns.2.0.fn.g" not in drawing
    assert tuple(judging["D.blocks.5.net.0.weight"].shape) == (512, 512, 3, 3)
    assert "D.blocks.5.downsample.0.f" not in judging and "D.attn_blocks.0.0.fn.fn.to_q.weight" in judging
    assert tuple(judging["D.to_logit.weight"].shape) == (1, 2048)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: small(structured=True), "'structured' generators, which are given a structure, are not supported"),
        (lambda: judge(quantize=True), "'quantize', which snaps features to a codebook, is not supported"),
        (lambda: small(attn_layers=[3]), "'attn_layers' are from 1 to 2 here; 3 is none of these"),
        (lambda: judge(attn_layers=[4]), "'attn_layers' are from 1 to 3 here; 4 is none of these"),
        (
            lambda: small()(torch.rand(1, 1, 7, 8)),
            r"noise \(B, C, H, W\) of 8 pixels or more a side, got \(1, 1, 7, 8\)",
        ),
    ],
)
def test_what_is_not_there_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
