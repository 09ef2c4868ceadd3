"""DCGAN's two networks, against the paper's description."""

import pytest
import torch
from torch import nn

from gradloom.networks.dcgan_discriminator import DCGANDiscriminator
from gradloom.networks.dcgan_generator import DCGANGenerator

SIZES = (8, 16, 32, 64, 128)


@pytest.mark.parametrize("size", SIZES)
def test_the_generator_draws_images_in_range(size):
    images = DCGANGenerator(image_size=size, latent_dim=5, channels=2, nf=2)(50 * torch.randn(3, 5))
    assert images.shape == (3, 2, size, size)
    assert images.abs().max() <= 1


@pytest.mark.parametrize("norm", ["batch", "none", "spectral"])
@pytest.mark.parametrize("size", SIZES)
def test_the_discriminator_gives_a_logit_an_image(size, norm):
    discriminator = DCGANDiscriminator(image_size=size, channels=2, nf=2, norm=norm)
    assert discriminator(torch.rand(3, 2, size, size)).shape == (3, 1)


def test_channels_are_those_of_the_papers_figure():
    generator = DCGANGenerator(image_size=64, nf=128)
    deconvolutions = [layer for layer in generator.layers if isinstance(layer, nn.ConvTranspose2d)]
    assert [layer.out_channels for layer in deconvolutions] == [1024, 512, 256, 128, 3]
    convolutions = [layer for layer in DCGANDiscriminator(image_size=64, nf=16).layers if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [16, 32, 64, 128, 1]


def test_channels_grow_eightfold_at_most():
    widest = max(module.out_channels for module in DCGANGenerator(image_size=256, nf=2).layers[:1])
    assert widest == 16


def test_where_the_batch_norms_are():
    generator = DCGANGenerator(image_size=32, nf=2)
    assert [type(layer) for layer in generator.layers[-2:]] == [nn.ConvTranspose2d, nn.Tanh]
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in generator.layers) == 3
    discriminator = DCGANDiscriminator(image_size=32, nf=2)
    assert [type(layer) for layer in discriminator.layers[:2]] == [nn.Conv2d, nn.LeakyReLU]
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in discriminator.layers) == 2


@pytest.mark.parametrize("network", [DCGANGenerator, DCGANDiscriminator])
def test_without_norms_there_are_none(network):
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network(image_size=32, nf=2, norm="none").modules())


@pytest.mark.parametrize("network", [DCGANGenerator, DCGANDiscriminator])
def test_first_weights_are_the_papers(network):
    torch.manual_seed(0)
    for module in network(image_size=32, nf=64).layers:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.weight.numel() > 10_000:
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.03)
            assert module.weight.mean().item() == pytest.approx(0, abs=0.001)
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.mean().item() == pytest.approx(1, abs=0.01)
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.4)
            assert not module.bias.any()


def test_spectral_norm_bounds_the_slope_of_every_layer():
    torch.manual_seed(0)
    discriminator = DCGANDiscriminator(image_size=32, channels=1, nf=8, norm="spectral")
    for _ in range(100):
        discriminator(torch.rand(2, 1, 32, 32))
    for layer in discriminator.eval().layers:
        if isinstance(layer, nn.Conv2d):
            assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("norm", ["batch", "none", "spectral"])
def test_gradients_reach_every_parameter(norm):
    torch.manual_seed(0)
    generator = DCGANGenerator(image_size=16, latent_dim=4, nf=4, norm="none" if norm == "none" else "batch")
    discriminator = DCGANDiscriminator(image_size=16, nf=4, norm=norm)
    discriminator(generator(torch.randn(4, 4))).square().sum().backward()
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None and parameter.grad.any(), name


@pytest.mark.parametrize("network", [DCGANGenerator, DCGANDiscriminator])
@pytest.mark.parametrize("size", [4, 24, 0])
def test_sizes_that_do_not_halve_evenly_are_refused(network, size):
    with pytest.raises(ValueError, match=f"power of two from 8 up, such as 32 or 64; {size} is not"):
        network(image_size=size)


def test_images_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"expected images of shape \(B, 3, 16, 16\), got \(2, 3, 32, 32\)"):
        DCGANDiscriminator(image_size=16, nf=2)(torch.rand(2, 3, 32, 32))
