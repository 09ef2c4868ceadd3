"""An example of each network of the package, small, for tests that every one has to pass."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gradloom.config.binding import bind
from gradloom.config.node import grown
from gradloom.errors import Fault, Mark
from gradloom.parts import networks


class Example(NamedTuple):
    """What a network is made from, and what it is given."""

    options: Mapping[str, Any]  # as YAML gives them
    inputs: Callable[[], tuple[Tensor, ...]]


def drawn(*shapes: tuple[int, ...]) -> Callable[[], tuple[Tensor, ...]]:
    """What draws a tensor in [0, 1) of each shape."""
    return lambda: tuple(map(torch.rand, shapes))


def _timed(*shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Noisy images, their timesteps, and what else there is to see."""
    noisy, *more = map(torch.rand, shapes)
    return noisy, torch.tensor([1, 30]), *more


def _overlapping() -> tuple[Tensor, ...]:
    """Views of 16 pixels, of 4 units a side, of which the first two rows and columns show the same."""
    units = [4, *(3, 3, 0, 0), *(3, 3, 0, 0), 0, 2, 2]
    return torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16), torch.tensor([units, units])


IMAGES = (2, 3, 8, 8)
LARGER = (2, 3, 32, 32)
RRDB = {"in_nc": 3, "out_nc": 3, "nf": 4, "nb": 1, "gc": 2}
SUBNET = {"which_model": "small_classifier", "image_size": 16, "width": 4}
BOOTSTRAP = {"subnet": SUBNET, "hidden_layer": "body", "image_size": 16, "projection_size": 4}
BOOTSTRAP |= {"projection_hidden_size": 5}

EXAMPLES: dict[str, Example] = {
    "RRDBNet": Example(RRDB | {"scale": 2}, drawn(IMAGES)),
    "RRDBNetBypass": Example(RRDB | {"nf": 8, "scale": 2, "bypass_noise": True}, drawn(IMAGES)),
    "byol": Example(BOOTSTRAP, drawn((2, 3, 16, 16), (2, 3, 16, 16))),
    "cifar_resnet18": Example({"num_classes": 4}, drawn(LARGER)),
    "dcgan_discriminator": Example({"image_size": 16, "nf": 4, "norm": "none"}, drawn((2, 3, 16, 16))),
    "dcgan_generator": Example({"image_size": 16, "nf": 4, "channels": 1}, drawn((2, 100))),
    "discriminator_patch": Example({"in_nc": 3, "nf": 4, "norm": "spectral"}, drawn(LARGER)),
    "discriminator_pix": Example({"in_nc": 3, "nf": 8}, drawn(LARGER)),
    "discriminator_unet": Example({"in_nc": 3, "nf": 8}, drawn(LARGER)),
    "discriminator_unet_fea": Example({"in_nc": 3, "nf": 8}, drawn(LARGER)),
    "discriminator_vgg_128": Example({"in_nc": 3, "nf": 4, "image_size": 32}, drawn(LARGER)),
    "discriminator_vgg_128_gn": Example({"in_nc": 3, "nf": 8, "image_size": 32}, drawn(LARGER)),
    "discriminator_vgg_448": Example({"in_nc": 3, "nf": 16}, drawn((1, 3, 448, 448))),
    "dvae": Example({"hidden_dim": 4, "codebook_dim": 4, "num_tokens": 5, "num_layers": 2}, drawn(IMAGES)),
    "glean": Example(
        {"nf": 4, "latent_bank_pretrained_weights": "random", "latent_bank_max_dim": 16, "gen_output_dim": 16,
         "input_dim": 8, "latent_bank_latent_dim": 4, "latent_bank_max_channels": 4, "gc": 2},
        drawn(IMAGES),
    ),
    "pixel_local_byol": Example(BOOTSTRAP, drawn((2, 3, 20, 20))),
    "raft": Example({"size": "small", "updates": 1}, drawn((1, 3, 2, 16, 16))),
    "resnet101": Example({"custom_head_logits": 4}, drawn(LARGER)),
    "resnet18": Example({"custom_head_logits": 4}, drawn(LARGER)),
    "resnet34": Example({"custom_head_logits": 4}, drawn(LARGER)),
    "resnet50": Example({"custom_head_logits": 4}, drawn(LARGER)),
    "rrdb_diffusion": Example(
        {"in_channels": 6, "out_channels": 6, "mid_channels": 4, "num_blocks": 1, "growth_channels": 2},
        partial(_timed, IMAGES, IMAGES),
    ),
    "rrdb_latent_wrapper": Example(RRDB | {"nf": 8, "blocks_for_latent": [0]}, drawn(IMAGES)),
    "rrdb_srflow": Example(RRDB | {"scale": 2}, drawn(IMAGES)),
    "segformer": Example({"size": "b0", "num_classes": 3}, drawn(LARGER)),
    "small_classifier": Example({"image_size": 16, "width": 4}, drawn((2, 3, 16, 16))),
    "srflow": Example(
        {"nf": 4, "nb": 1, "gc": 2, "scale": 2,
         "flow": {"K": 1, "L": 2, "split": {"enable": True}, "augmentation": {"noiseQuant": False}}},
        drawn(IMAGES, (2, 3, 4, 4)),
    ),
    "structural_byol": Example(BOOTSTRAP, _overlapping),
    "stylegan2_discriminator": Example(
        {"image_size": 8, "in_nc": 3, "augmentation_types": ["color"], "augmentation_probability": 0.5,
         "network_capacity": 1},
        drawn(IMAGES),
    ),
    "stylegan2_lucidrains": Example(
        {"image_size": 8, "latent_dim": 6, "style_depth": 1, "network_capacity": 1}, drawn((2, 1, 8, 8))
    ),
    "stylegan2_rosinality_disc": Example({"size": 8, "max_channels": 4, "blur_kernel": [1, 2, 1]}, drawn(IMAGES)),
    "stylegan2_rosinality_gen": Example(
        {"size": 8, "style_dim": 6, "n_mlp": 1, "max_channels": 4, "channel_multiplier": 1}, drawn((2, 6))
    ),
    "stylegan_vgg": Example({"image_size": 8}, drawn(IMAGES)),
    "torch_vgg16": Example({"num_classes": 4}, drawn(LARGER)),
    "unet_diffusion": Example(
        {"image_size": 8, "in_channels": 3, "model_channels": 32, "out_channels": 6, "num_res_blocks": 1,
         "attention_resolutions": [2], "channel_mult": [1, 2], "num_heads": 2},
        partial(_timed, IMAGES, (2, 3, 4, 4)),
    ),
    "vqvae": Example({"channel": 4, "n_res_channel": 2, "codebook_dim": 4, "codebook_size": 5}, drawn(IMAGES)),
}  # fmt: skip


def names() -> list[str]:
    """The names of the package's networks."""
    return [name for name in networks.discover() if networks.classes[name].__module__.startswith("gradloom.")]


def built(name: str, options: Mapping[str, Any]) -> nn.Module:
    """A network of options that have no faults."""
    make = networks.find(name)
    assert make is not None
    faults: list[Fault] = []
    arguments = bind(make, grown(dict(options), Mark("x.yml", 1, 1)), faults)
    assert not faults
    return make(**arguments)
