"""GLEAN: its wiring against a restatement, its bank, and the sizes that it takes."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, leaky_relu

from gradloom.networks.glean import Glean
from gradloom.networks.stylegan2_rosinality_gen import StyleGAN2Generator

SMALL = {
    "nf": 4, "latent_bank_max_dim": 64, "gen_output_dim": 32, "encoder_rrdb_nb": 1, "latent_bank_latent_dim": 6,
    "input_dim": 8, "latent_bank_max_channels": 5, "gc": 2,
}  # fmt: skip


def small(**options) -> Glean:
    torch.manual_seed(0)
    return Glean(**{"latent_bank_pretrained_weights": "random", **SMALL, **options})


def restated(network: Glean, x: Tensor) -> Tensor:
    """Section 3 as the ancestor has it, from weights under its names; blocks that are tested elsewhere are called."""
    weights = network.state_dict()

    def layer(name: str, y: Tensor, stride: int = 1, active: bool = True) -> Tensor:
        weight = weights[f"{name}.conv.weight"]
        y = conv2d(y, weight, weights.get(f"{name}.conv.bias"), stride, weight.shape[-1] // 2)
        return leaky_relu(y, 0.2) if active else y

    first = network.encoder.rrdb_blocks(layer("encoder.initial_conv", x, active=False))
    y, features = first, []
    for i in range(2):
        features.append(layer(f"encoder.reducers.{i}.structural_latent_conv", y, active=False))
        y = layer(f"encoder.reducers.{i}.process.1", layer(f"encoder.reducers.{i}.process.0", y, 2))
    flat = layer("encoder.latent_conv", y, 2)[:, :, 0, 0]
    latents = network.encoder.latent_linear(flat).view(-1, 5, 6)
    bank, fusion = network.latent_bank.bank, "latent_bank.fusion_blocks"
    at4 = bank.conv1(bank.input(len(x)), latents[:, 0])
    at8 = layer(f"{fusion}.0", torch.cat([features[1], at4], 1))
    at8 = bank.convs[1](bank.convs[0](at8, latents[:, 0]), latents[:, 0])
    at16 = layer(f"{fusion}.1", torch.cat([features[0], at8], 1))
    at16 = bank.convs[3](bank.convs[2](at16, latents[:, 1]), latents[:, 1])
    at32 = bank.convs[5](bank.convs[4](at16, latents[:, 2]), latents[:, 2])
    y = layer("decoder.initial_conv", first)
    y = layer("decoder.decoder_blocks.0", torch.cat([interpolate(y, scale_factor=2), at16], 1))
    y = layer("decoder.decoder_blocks.1", torch.cat([interpolate(y, scale_factor=2), at32], 1))
    return layer("decoder.final_decode", y, active=False)


def test_it_computes_what_the_ancestor_did() -> None:
    network, x = small().double(), torch.rand(2, 3, 8, 8, dtype=torch.float64)
    y = network(x)
    assert y.shape == (2, 3, 32, 32)
    torch.testing.assert_close(y, restated(network, x))


def test_the_recipes_sizes_have_the_ancestors_names_and_shapes() -> None:
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in Glean(64, "random").state_dict().items()}
    assert shapes["encoder.initial_conv.conv.weight"] == (64, 3, 7, 7)
    assert shapes["encoder.rrdb_blocks.5.rdb3.conv5.weight"] == (64, 192, 3, 3)
    assert shapes["encoder.reducers.3.structural_latent_conv.conv.weight"] == (512, 512, 1, 1)
    assert shapes["encoder.reducers.0.process.0.conv.weight"] == (128, 64, 3, 3)
    assert "encoder.reducers.0.process.0.conv.bias" not in shapes
    assert shapes["encoder.latent_linear.weight"] == (8 * 512, 512)
    assert shapes["latent_bank.bank.convs.15.conv.weight"] == (1, 32, 32, 3, 3)
    joined = [shapes[f"latent_bank.fusion_blocks.{i}.conv.weight"][:2] for i in range(4)]
    assert joined == [(512, 1024), (512, 768), (512, 640), (512, 576)]
    blocks = [shapes[f"decoder.decoder_blocks.{i}.conv.weight"][:2] for i in range(3)]
    assert blocks == [(512, 576), (256, 768), (128, 384)]
    assert shapes["decoder.final_decode.conv.bias"] == (3,)


def test_a_stride_shrinks_first() -> None:
    assert small(input_dim=32, initial_stride=4)(torch.rand(1, 3, 32, 32)).shape == (1, 3, 32, 32)


def test_only_the_banks_weights_stay_as_they_are() -> None:
    network = small()
    network(torch.rand(2, 3, 8, 8)).square().sum().backward()
    for name, parameter in network.named_parameters():
        if name.startswith("latent_bank.bank."):
            assert not parameter.requires_grad and parameter.grad is None
        else:
            assert parameter.grad is not None and parameter.grad.any(), name


@pytest.mark.parametrize(("name", "wrapped"), [("bank.pth", False), ("bank.pth", True), ("bank.safetensors", False)])
def test_the_bank_has_the_weights_of_a_file(tmp_path: Path, name: str, wrapped: bool) -> None:
    bank, file = StyleGAN2Generator(64, 6, max_channels=5), tmp_path / name
    if name.endswith("pth"):
        torch.save({"g_ema": bank.state_dict(), "latent_avg": torch.zeros(6)} if wrapped else bank.state_dict(), file)
    else:
        save_file(bank.state_dict(), file)
    network = small(latent_bank_pretrained_weights=file)
    for key, value in bank.state_dict().items():
        assert network.latent_bank.bank.state_dict()[key].equal(value), key
    with torch.device("meta"):
        small(latent_bank_pretrained_weights=file)


def test_a_file_that_is_not_there_or_of_another_generator_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'latent_bank_pretrained_weights': there is no file .*write 'random'"):
        small(latent_bank_pretrained_weights=tmp_path / "bank.pth")
    file = tmp_path / "bank.pth"
    torch.save(StyleGAN2Generator(32, 6, max_channels=5).state_dict(), file)
    with pytest.raises(
        ValueError, match=r"does not hold a StyleGAN2 of 64 pixels, with 6 numbers in a style: (?s:.*)Missing key"
    ):
        small(latent_bank_pretrained_weights=file)
    file.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="does not hold a StyleGAN2"):
        small(latent_bank_pretrained_weights=file)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gen_output_dim": 8}, "'gen_output_dim' has to be above 8, .* at most latent_bank_max_dim 64; it is 8"),
        ({"gen_output_dim": 128}, "at most latent_bank_max_dim 64; it is 128"),
        ({"initial_stride": 3}, "has to leave a power of two from 4 up of input_dim 8, not 2"),
        ({"initial_stride": 4}, "has to leave a power of two from 4 up of input_dim 8, not 2"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(options: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        small(**options)


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(B, 3, 8, 8\), got \(1, 3, 9, 9\)"):
        small()(torch.rand(1, 3, 9, 9))
