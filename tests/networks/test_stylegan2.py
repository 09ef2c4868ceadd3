"""StyleGAN2's layers against their formulas, its networks against a restatement and the sizes that are published."""

import math

import numpy as np
import pytest
import scipy.signal
import torch
from torch.nn.functional import conv2d, leaky_relu, pad

from gradloom.networks._resampling import Enlarge, Smooth, square_kernel, upfirdn
from gradloom.networks._stylegan2 import EqualConv2d, EqualLinear, ModulatedConv2d, minibatch_deviation
from gradloom.networks.stylegan2_rosinality_disc import StyleGAN2Discriminator
from gradloom.networks.stylegan2_rosinality_gen import StyleGAN2Generator

TAPS = (1, 3, 3, 1)


def rand(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def per_sample(x, weight, styles, demodulate):
    """Equations 1 to 3, with weights for each sample."""
    outputs = []
    for image, style in zip(x, styles, strict=True):
        scaled = weight * style[None, :, None, None]
        if demodulate:
            scaled = scaled / (scaled.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        outputs.append(conv2d(image[None], scaled, padding=weight.shape[-1] // 2))
    return torch.cat(outputs)


def doubled(x, weight, styles, taps=TAPS):
    """The same on an image with zeros between its pixels, by a kernel that is turned round, smoothed after."""
    size = weight.shape[-1]
    wide = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    wide[..., ::2, ::2] = x
    smooth = np.outer(taps, taps) / sum(taps) ** 2 * 4
    outputs = []
    for image, style in zip(wide, styles, strict=True):
        scaled = weight * style[None, :, None, None]
        scaled = scaled / (scaled.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        full = conv2d(pad(image[None], (size - 1,) * 4), scaled.flip(2, 3))[0]
        outputs.append(np.stack([scipy.signal.convolve2d(plane, smooth) for plane in full.detach().numpy()]))
    start = len(taps) // 2  # where the middles of both kernels lie over the first pixel
    whole = torch.from_numpy(np.stack(outputs))
    return whole[..., start:, start:][..., : wide.shape[2], : wide.shape[3]]


@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (3, 2)])
def test_filters_are_scipys(up, down):
    taps, x = [1.0, 3.0, 2.0, 1.0], rand(2, 3, 6, 5)
    found = upfirdn(x, square_kernel(taps).double(), up, down, (3, 3))
    line = np.array(taps) / sum(taps)
    expected = scipy.signal.upfirdn(line, scipy.signal.upfirdn(line, x.numpy(), up, down, axis=2), up, down, axis=3)
    height, width = expected.shape[2:]
    torch.testing.assert_close(found[..., :height, :width], torch.from_numpy(expected), rtol=1e-6, atol=1e-7)
    assert not found[..., height:, :].any() and not found[..., width:].any()


def test_enlarging_keeps_a_plane_and_smoothing_its_mean():
    flat = torch.full((1, 2, 8, 8), 3.0, dtype=torch.float64)
    inner = Enlarge(TAPS).double()(flat)[..., 2:-2, 2:-2]
    torch.testing.assert_close(inner, torch.full_like(inner, 3))
    assert Enlarge(TAPS).double()(flat).shape == (1, 2, 16, 16)
    assert Smooth(TAPS, (2, 1)).double()(flat).shape == (1, 2, 8, 8)


def test_a_filter_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"sum other than 0, such as \[1, 3, 3, 1\]; got \[\]"):
        StyleGAN2Generator(8, blur_kernel=[])


def modulated(**options):
    torch.manual_seed(0)
    return ModulatedConv2d(3, 5, 3, style_dim=4, **options).double()


@pytest.mark.parametrize("demodulate", [True, False])
def test_modulation_scales_each_samples_weights(demodulate):
    layer, x, style = modulated(demodulate=demodulate), rand(4, 3, 6, 7), rand(4, 4)
    scales = style @ layer.modulation.weight.T / math.sqrt(4) + 1
    expected = per_sample(x, layer.weight[0] / math.sqrt(27), scales, demodulate)
    torch.testing.assert_close(layer(x, style), expected)


@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (1, 2, 1), (1, 4, 6, 4, 1)])
def test_modulation_may_double_the_size(taps):
    layer, x, style = modulated(taps=taps), rand(2, 3, 4, 6), rand(2, 4)
    scales = layer.modulation(style)
    found = layer(x, style)
    expected = doubled(x, layer.weight[0] / math.sqrt(27), scales, taps)
    assert found.shape == (2, 5, 8, 12)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("channels_last", [False, True])
def test_demodulated_outputs_have_unit_variance_whatever_the_style(channels_last):
    torch.manual_seed(0)
    layer = ModulatedConv2d(16, 8, 3, style_dim=4).double()
    x = torch.randn(3, 16, 64, 64, dtype=torch.float64)
    x = x.to(memory_format=torch.channels_last) if channels_last else x
    found = layer(x, 5 * torch.randn(3, 4, dtype=torch.float64))[..., 1:-1, 1:-1].var((2, 3))
    torch.testing.assert_close(found, torch.ones_like(found), rtol=0, atol=0.15)
    plain = ModulatedConv2d(16, 8, 3, style_dim=4, demodulate=False).double()
    assert (plain(x, torch.full((3, 4), 5.0, dtype=torch.float64)).var((2, 3)) - 1).abs().max() > 1


def test_modulation_can_be_differentiated_twice():
    for layer in (modulated(), modulated(taps=TAPS), modulated(demodulate=False)):
        x, style = rand(2, 3, 4, 4).requires_grad_(), rand(2, 4).requires_grad_()
        assert torch.autograd.gradcheck(layer, (x, style))
        assert torch.autograd.gradgradcheck(layer, (x, style))


def test_equal_layers_scale_their_weights_at_run_time():
    torch.manual_seed(0)
    x = rand(5, 8)
    for rate, active in ((1.0, False), (0.01, True)):
        layer = EqualLinear(8, 4, first_bias=2.0, lr_mul=rate, active=active).double()
        y = x @ layer.weight.T * rate / math.sqrt(8) + 2 * rate
        torch.testing.assert_close(layer(x), leaky_relu(y, 0.2) * math.sqrt(2) if active else y)
    wide = EqualLinear(4096, 64, lr_mul=0.01)
    assert wide.weight.std().item() == pytest.approx(100, rel=0.01)
    assert wide(torch.randn(64, 4096)).std().item() == pytest.approx(1, rel=0.05)
    conv = EqualConv2d(8, 4, 3, padding=1).double()
    image = rand(2, 8, 5, 5)
    torch.testing.assert_close(conv(image), conv2d(image, conv.weight / math.sqrt(72), conv.bias, padding=1))


@pytest.mark.parametrize(("batch", "size"), [(8, 4), (4, 4), (6, 3), (2, 2), (1, 1), (7, 1)])
def test_minibatch_deviation_tells_how_much_a_group_differs(batch, size):
    x = rand(batch, 3, 2, 2)
    found = minibatch_deviation(x)
    torch.testing.assert_close(found[:, :3], x)
    for sample in range(batch):
        group = x[sample % (batch // size) :: batch // size]
        expected = ((group - group.mean(0)).square().mean(0) + 1e-8).sqrt().mean()
        torch.testing.assert_close(found[sample, 3], expected.expand(2, 2))


def generator(size=16, **options):
    torch.manual_seed(0)
    made = StyleGAN2Generator(size, **{"style_dim": 6, "n_mlp": 2, "max_channels": 4, **options}).double()
    for name, parameter in made.named_parameters():
        if name.endswith(("noise.weight", "bias")):
            torch.nn.init.normal_(parameter)
    return made


def restated(weights, z, noises, size):
    """The synthesis of figures 2c and 7b as one function of the weights."""

    def style(name, w):
        return w @ weights[f"{name}.modulation.weight"].T / math.sqrt(w.shape[1]) + weights[f"{name}.modulation.bias"]

    def layer(name, x, w, noise, up):
        weight = weights[f"{name}.conv.weight"][0] / math.sqrt(9 * x.shape[1])
        scales = style(f"{name}.conv", w)
        y = doubled(x, weight, scales) if up else per_sample(x, weight, scales, True)
        y = y + weights[f"{name}.noise.weight"] * noise + weights[f"{name}.activate.bias"][:, None, None]
        return leaky_relu(y, 0.2) * math.sqrt(2)

    def rgb(name, x, w):
        weight = weights[f"{name}.conv.weight"][0] / math.sqrt(x.shape[1])
        return per_sample(x, weight, style(f"{name}.conv", w), False) + weights[f"{name}.bias"]

    def larger(image):
        line = np.array([1, 3, 3, 1]) / 4
        for axis in (2, 3):
            image = scipy.signal.upfirdn(line, image, 2, 1, axis=axis).take(range(1, 2 * image.shape[axis] + 1), axis)
        return torch.from_numpy(image)

    w = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for i in (1, 2):
        y = w @ weights[f"style.{i}.weight"].T * 0.01 / math.sqrt(w.shape[1]) + weights[f"style.{i}.bias"] * 0.01
        w = leaky_relu(y, 0.2) * math.sqrt(2)
    x = layer("conv1", weights["input.input"].expand(len(z), -1, -1, -1), w, noises[0], up=False)
    image = rgb("to_rgb1", x, w)
    for i in range(size.bit_length() - 3):
        x = layer(f"convs.{2 * i}", x, w, noises[2 * i + 1], up=True)
        x = layer(f"convs.{2 * i + 1}", x, w, noises[2 * i + 2], up=False)
        image = larger(image.numpy()) + rgb(f"to_rgbs.{i}", x, w)
    return image


def test_the_generator_computes_what_is_published():
    network, z = generator(), rand(3, 6)
    weights = {name: value.detach() for name, value in network.state_dict().items()}
    noises = [weights[f"noises.noise_{i}"] for i in range(5)]
    expected = restated(weights, z, noises, 16)
    image, latents = network(z, randomize_noise=False)
    assert image.shape == (3, 3, 16, 16) and latents.shape == (3, 6, 6)
    torch.testing.assert_close(image, expected, rtol=1e-5, atol=1e-6)
    again, _ = network([z], noise=noises)
    torch.testing.assert_close(again, image)
    torch.manual_seed(1)
    assert not torch.equal(network(z)[0], network(z)[0])


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_networks_have_as_many_weights_as_the_published_ones():
    with torch.device("meta"):
        assert count(StyleGAN2Generator(1024)) == 30_370_060
        assert count(StyleGAN2Discriminator(1024)) == 29_012_513
        assert count(StyleGAN2Generator(256, channel_multiplier=1)) == 24_767_458
        assert count(StyleGAN2Discriminator(256, channel_multiplier=1)) == 24_001_089


def test_weights_have_the_names_they_are_passed_around_by():
    with torch.device("meta"):
        names = {name: tuple(value.shape) for name, value in StyleGAN2Generator(32).state_dict().items()}
        judging = {name: tuple(value.shape) for name, value in StyleGAN2Discriminator(64).state_dict().items()}
    assert names["style.8.weight"] == (512, 512) and "style.9.weight" not in names
    assert names["convs.0.conv.blur.kernel"] == (4, 4) and "convs.1.conv.blur.kernel" not in names
    assert names["convs.5.conv.modulation.bias"] == (512,) and names["convs.5.noise.weight"] == (1,)
    assert names["to_rgbs.2.upsample.kernel"] == (4, 4) and names["to_rgbs.2.bias"] == (1, 3, 1, 1)
    assert names["noises.noise_6"] == (1, 1, 32, 32) and "noises.noise_7" not in names
    assert judging["convs.0.0.weight"] == (512, 3, 1, 1) and judging["convs.0.1.bias"] == (512,)
    assert judging["convs.1.conv1.0.weight"] == (512, 512, 3, 3) and judging["convs.1.conv2.0.kernel"] == (4, 4)
    assert judging["convs.4.conv2.1.weight"] == (512, 512, 3, 3) and judging["convs.4.conv2.2.bias"] == (512,)
    assert judging["convs.4.skip.1.weight"] == (512, 512, 1, 1) and "convs.4.skip.2.bias" not in judging
    assert judging["final_conv.0.weight"] == (512, 513, 3, 3) and judging["final_linear.0.weight"] == (512, 8192)


def test_two_latents_are_mixed_at_a_layer_of_each_samples_own():
    network, first, second = generator(), rand(32, 6), rand(32, 6).flip(0)
    ws = [network.style(z) for z in (first, second)]
    _, latents = network([first, second], inject_index=2)
    torch.testing.assert_close(latents, torch.stack([ws[0]] * 2 + [ws[1]] * 4, 1))
    _, latents = network((first, second))
    crossovers = set()
    for sample in range(32):
        from_first = [bool(torch.equal(latents[sample, i], ws[0][sample])) for i in range(6)]
        assert from_first == sorted(from_first, reverse=True) and from_first[0] and not from_first[-1]
        crossovers.add(sum(from_first))
    assert crossovers == {1, 2, 3, 4, 5}


def test_truncation_draws_styles_towards_their_mean():
    network, z = generator(), rand(3, 6)
    centre = network.mean_latent(50_000)
    w, mean = network.style(z), network.style(rand(40_000, 6)).mean(0)
    torch.testing.assert_close(centre[0], mean, rtol=0, atol=0.05 * w.std().item())
    _, latents = network(z, 0.7, centre)
    torch.testing.assert_close(latents[:, 3], centre + 0.7 * (w - centre))
    image, _ = network(latents, input_is_latent=True, randomize_noise=False)
    torch.testing.assert_close(image, network(latents[:, 0], input_is_latent=True, randomize_noise=False)[0])


def test_the_generator_refuses_what_it_cannot_draw():
    network, z = generator(), rand(2, 6)
    with pytest.raises(ValueError, match="one latent makes an image, and two are mixed; got 3"):
        network([z, z, z])
    with pytest.raises(ValueError, match=r"'truncation' needs a 'centre'.*mean_latent"):
        network(z, truncation=0.5)
    with pytest.raises(ValueError, match="one item for each of 5 layers, got 1"):
        network(z, noise=[None])


def test_the_discriminator_halves_with_filtered_blocks():
    torch.manual_seed(0)
    network, x = StyleGAN2Discriminator(8, max_channels=4).double(), rand(2, 3, 8, 8)
    weights = network.state_dict()
    kernel = square_kernel(TAPS).double()

    def conv(name, y, stride=1):
        weight = weights[f"{name}.weight"]
        return conv2d(
            y, weight / math.sqrt(weight[0].numel()), None, stride, weight.shape[-1] // 2 if stride == 1 else 0
        )

    def act(name, y):
        return leaky_relu(y + weights[f"{name}.bias"][:, None, None], 0.2) * math.sqrt(2)

    y = act("convs.0.1", conv("convs.0.0", x))
    inner = act("convs.1.conv1.1", conv("convs.1.conv1.0", y))
    inner = act("convs.1.conv2.2", conv("convs.1.conv2.1", upfirdn(inner, kernel, pad=(2, 2)), 2))
    y = (inner + conv("convs.1.skip.1", upfirdn(y, kernel, pad=(1, 1)), 2)) / math.sqrt(2)
    y = act("final_conv.1", conv("final_conv.0", minibatch_deviation(y))).flatten(1)
    y = y @ weights["final_linear.0.weight"].T / math.sqrt(64) + weights["final_linear.0.bias"]
    y = leaky_relu(y, 0.2) * math.sqrt(2)
    torch.testing.assert_close(network(x), y @ weights["final_linear.1.weight"].T / 2 + weights["final_linear.1.bias"])
    with pytest.raises(ValueError, match=r"shape \(B, 3, 8, 8\), got \(2, 3, 16, 16\)"):
        network(rand(2, 3, 16, 16))


def test_gradients_reach_every_parameter():
    network = generator()
    image, latents = network([rand(4, 6), rand(4, 6)])
    judge = StyleGAN2Discriminator(16, max_channels=4).double()
    judge(image).square().sum().backward()
    for name, parameter in [*network.named_parameters(), *judge.named_parameters()]:
        assert parameter.grad is not None and parameter.grad.any(), name
    assert latents.requires_grad
