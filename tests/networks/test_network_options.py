"""What options files may say of networks: bound from the constructors, refused at their lines."""

import pytest

from gradloom.config.binding import bind
from gradloom.config.source import parse
from gradloom.parts import networks


def bound(name, text):
    node, faults = parse(text, "x.yml")
    return bind(networks.find(name), node, faults), [str(fault) for fault in faults]


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
