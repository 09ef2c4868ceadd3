"""What options files may say of networks: bound from the constructors, refused at their lines."""

import copy

import pytest
import torch

from gradloom.config.binding import bind
from gradloom.config.source import parse
from gradloom.parts import networks

OPTIONS = {
    "dcgan_generator": ("image_size: 16\nnf: 4\nchannels: 1", (2, 100)),
    "dcgan_discriminator": ("image_size: 16\nnf: 4\nnorm: none", (2, 3, 16, 16)),
    "RRDBNet": ("in_nc: 3\nout_nc: 3\nnf: 4\nnb: 1\nscale: 2\ngc: 2", (2, 3, 8, 8)),
    "discriminator_vgg_128_gn": ("in_nc: 3\nnf: 8\nimage_size: 32", (2, 3, 32, 32)),
    "RRDBNetBypass": ("in_nc: 3\nout_nc: 3\nnf: 8\nnb: 1\nscale: 2\ngc: 2\nbypass_noise: true", (2, 3, 8, 8)),
    "discriminator_vgg_128": ("in_nc: 3\nnf: 4\nimage_size: 32", (2, 3, 32, 32)),
    "discriminator_vgg_448": ("in_nc: 3\nnf: 16", (1, 3, 448, 448)),
    "discriminator_unet": ("in_nc: 3\nnf: 8", (2, 3, 32, 32)),
    "discriminator_unet_fea": ("in_nc: 3\nnf: 8", (2, 3, 32, 32)),
    "discriminator_pix": ("in_nc: 3\nnf: 8", (2, 3, 32, 32)),
    "discriminator_patch": ("in_nc: 3\nnf: 4\nnorm: spectral", (2, 3, 32, 32)),
    "stylegan_vgg": ("image_size: 8", (2, 3, 8, 8)),
    "dvae": ("{hidden_dim: 4, codebook_dim: 4, num_tokens: 5, num_layers: 2}", (2, 3, 8, 8)),
    "vqvae": ("{channel: 4, n_res_channel: 2, codebook_dim: 4, codebook_size: 5}", (2, 3, 8, 8)),
    "rrdb_srflow": ("in_nc: 3\nout_nc: 3\nnf: 4\nnb: 1\nscale: 2\ngc: 2", (2, 3, 8, 8)),
    "rrdb_latent_wrapper": ("in_nc: 3\nout_nc: 3\nnf: 8\nnb: 1\nblocks_for_latent: [0]\ngc: 2", (2, 3, 8, 8)),
    "stylegan2_discriminator": (
        "{image_size: 8, in_nc: 3, augmentation_types: [color], augmentation_probability: 0.5, network_capacity: 1}",
        (2, 3, 8, 8),
    ),
    "stylegan2_rosinality_gen": ("size: 8\nstyle_dim: 6\nn_mlp: 1\nmax_channels: 4\nchannel_multiplier: 1", (2, 6)),
    "stylegan2_rosinality_disc": ("size: 8\nmax_channels: 4\nblur_kernel: [1, 2, 1]", (2, 3, 8, 8)),
    "glean": (
        "{nf: 4, latent_bank_pretrained_weights: random, latent_bank_max_dim: 16, gen_output_dim: 16, input_dim: 8, "
        "latent_bank_latent_dim: 4, latent_bank_max_channels: 4, gc: 2}",
        (2, 3, 8, 8),
    ),
    "small_classifier": ("image_size: 16\nwidth: 4", (2, 3, 16, 16)),
    "resnet18": ("custom_head_logits: 4", (2, 3, 32, 32)),
    "segformer": ("size: b0\nnum_classes: 3", (2, 3, 32, 32)),
    "cifar_resnet18": ("num_classes: 4", (2, 3, 32, 32)),
}


def bound(name, text):
    node, faults = parse(text, "x.yml")
    return bind(networks.find(name), node, faults), [str(fault) for fault in faults]


@pytest.mark.parametrize("name", OPTIONS)
def test_options_make_a_network_that_can_be_copied(name):
    text, shape = OPTIONS[name]
    arguments, faults = bound(name, text)
    assert not faults
    network = networks.find(name)(**arguments).eval()
    x = torch.rand(shape)
    torch.testing.assert_close(copy.deepcopy(network)(x), network(x))
    again = networks.find(name)(**arguments).eval()
    again.load_state_dict(network.state_dict())
    torch.testing.assert_close(again(x), network(x))


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        (
            "dcgan_generator",
            "nf: 4\nimage_size: 24",
            "x.yml:2:1: image_size: an image size here is a power of two from 8 up, such as 32 or 64; 24 is not, "
            "got int 24",
        ),
        (
            "byol",
            "{image_size: 32, hidden_layer: body, subnet: {which_model: small_classifier, image_sizes: 32}}",
            "x.yml:1:78: subnet.image_sizes: unknown option; did you mean 'image_size'?",
        ),
        (
            "RRDBNet",
            "{in_nc: 3, out_nc: 3, nf: 4, nb: 1, scale: 3}",
            "x.yml:1:37: scale: expected one of 1, 2, 4, 8, got int 3",
        ),
        (
            "discriminator_vgg_128_gn",
            "{in_nc: 3, nf: 12, image_size: 32}",
            "x.yml:1:12: nf: should be a multiple of 8, got int 12",
        ),
        (
            "discriminator_vgg_128_gn",
            "{in_nc: 3, nf: 8, image_size: 32, scale: 2}",
            "x.yml:1:35: scale: unknown option; known: extra_conv, image_size, in_nc, nf",
        ),
    ],
)
def test_faults_say_what_to_write(name, text, fault):
    assert bound(name, text)[1] == [fault]
