"""Discriminators of images and of patches, against what is published of them."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, batch_norm, conv2d, group_norm, leaky_relu

from gradloom.networks.discriminator_patch import DiscriminatorPatch
from gradloom.networks.discriminator_pix import DiscriminatorPix
from gradloom.networks.discriminator_unet import DiscriminatorUNet
from gradloom.networks.discriminator_unet_fea import DiscriminatorUNetFea
from gradloom.networks.discriminator_vgg_128 import DiscriminatorVGG
from gradloom.networks.discriminator_vgg_128_gn import DiscriminatorVGGGN
from gradloom.networks.discriminator_vgg_448 import DiscriminatorVGG448
from gradloom.networks.stylegan_vgg import StyleGANDiscriminator

Weights = dict[str, Tensor]


def stirred(network: nn.Module) -> Any:
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


def conv(w: Weights, name: str, x: Tensor, stride: int = 1) -> Tensor:
    kernel = w[f"{name}.weight"]
    return conv2d(x, kernel, w.get(f"{name}.bias"), stride, (kernel.shape[-1] - 1) // 2)


def gn(w: Weights, name: str, x: Tensor) -> Tensor:
    return group_norm(x, 8, w[f"{name}.weight"], w[f"{name}.bias"])


def block(w: Weights, name: str, x: Tensor, stride: int = 1, act: bool = True) -> Tensor:
    made = conv(w, f"{name}.conv", x, stride)
    made = gn(w, f"{name}.gn", made) if f"{name}.gn.weight" in w else made
    return leaky_relu(made, 0.2) if act else made


def grown(x: Tensor, factor: int) -> Tensor:
    return x.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


def ascended(w: Weights, name: str, small: Tensor, large: Tensor) -> Tensor:
    x = block(w, f"{name}.decimate", grown(small, 2), act=False)
    passed = block(w, f"{name}.process_passthrough", large, act=False)
    return block(w, f"{name}.process", block(w, f"{name}.conjoin", torch.cat([x, passed], 1)))


def descended(w: Weights, x: Tensor) -> list[Tensor]:
    made = []
    for i in range(5):
        x = block(w, f"conv{i}_1", block(w, f"conv{i}_0", x, act=i > 0), 2)
        made.append(x)
    return made


def vgg(w: Weights, x: Tensor, norm: Any, rows: int) -> Tensor:
    for i in range(rows):
        x = conv(w, f"conv{i}_0", x)
        x = leaky_relu(norm(w, f"bn{i}_0", x) if i else x, 0.2)
        x = leaky_relu(norm(w, f"bn{i}_1", conv(w, f"conv{i}_1", x, 2)), 0.2)
    x = leaky_relu(x.flatten(1) @ w["linear1.weight"].T + w["linear1.bias"], 0.2)
    return x @ w["linear2.weight"].T + w["linear2.bias"]


def bn(w: Weights, name: str, x: Tensor) -> Tensor:
    return batch_norm(x, None, None, w[f"{name}.weight"], w[f"{name}.bias"], training=True)


@pytest.mark.parametrize("extra", [False, True])
def test_the_vgg_discriminator_has_batch_norms(extra: bool) -> None:
    network, x = stirred(DiscriminatorVGG(in_nc=3, nf=4, image_size=64, extra_conv=extra)), torch.rand(3, 3, 64, 64)
    w = network.state_dict()
    torch.testing.assert_close(network(x), vgg(w, x, bn, 6 if extra else 5), rtol=1e-4, atol=1e-4)
    assert w["linear1.weight"].shape == ((100, 64) if extra else (100, 32 * 4))
    assert w["conv4_1.weight"].shape == (32, 32, 4, 4) and "conv1_0.bias" not in w


def test_it_is_for_128_pixels_by_itself() -> None:
    assert DiscriminatorVGG(in_nc=3, nf=2)(torch.rand(2, 3, 128, 128)).shape == (2, 1)
    with pytest.raises(ValueError, match="image_size 96 does not halve 6 times; write a multiple of 64"):
        DiscriminatorVGG(in_nc=3, nf=2, image_size=96, extra_conv=True)


def test_the_group_norms_are_still_those_of_the_recordings() -> None:
    network, x = stirred(DiscriminatorVGGGN(in_nc=3, nf=8, image_size=32)), torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(network(x), vgg(network.state_dict(), x, gn, 5), rtol=1e-4, atol=1e-4)


def test_large_images_pass_a_new_head_first() -> None:
    network, x = stirred(DiscriminatorVGG448(in_nc=3, nf=16)), torch.rand(1, 3, 448, 448)
    w = network.state_dict()
    with torch.no_grad():
        y = leaky_relu(conv(w, "convn1_0", x), 0.2)
        y = leaky_relu(gn(w, "bnn1_1", conv(w, "convn1_1", y, 2)), 0.2)
        y = leaky_relu(gn(w, "bn0_0", conv(w, "conv0_0_new", y)), 0.2)
        y = leaky_relu(gn(w, "bn0_1", conv(w, "conv0_1", y, 2)), 0.2)
        for i in range(1, 5):
            y = leaky_relu(gn(w, f"bn{i}_0", conv(w, f"conv{i}_0", y)), 0.2)
            y = leaky_relu(gn(w, f"bn{i}_1", conv(w, f"conv{i}_1", y, 2)), 0.2)
        y = leaky_relu(y.flatten(1) @ w["linear1.weight"].T + w["linear1.bias"], 0.2)
        torch.testing.assert_close(network(x), y @ w["linear2.weight"].T + w["linear2.bias"], rtol=1e-3, atol=1e-3)
    new = {name for name, p in network.named_parameters() if vars(p).get("PARAM_GROUP") == "new_head"}
    assert {name.partition(".")[0] for name in new} == {"convn1_0", "convn1_1", "bnn1_1", "conv0_0_new", "bn0_0"}
    assert {n for n, p in network.named_parameters() if not p.requires_grad} == {"conv0_0.weight", "conv0_0.bias"}
    old = DiscriminatorVGGGN(in_nc=3, nf=16, image_size=224).state_dict()
    missing, unexpected = network.load_state_dict(old, strict=False)
    assert not unexpected and {name.partition(".")[0] for name in missing} == {name.partition(".")[0] for name in new}


def test_the_unet_judges_patches_of_three_sizes() -> None:
    network, x = stirred(DiscriminatorUNet(in_nc=3, nf=8)), torch.rand(2, 3, 32, 64)
    w = network.state_dict()
    _, fea1, fea2, fea3, fea4 = descended(w, x)
    u1 = ascended(w, "up1", fea4, fea3)
    u2 = ascended(w, "up2", u1, fea2)
    u3 = ascended(w, "up3", u2, fea1)
    judged = [conv(w, f"collapse{n}.conv", block(w, f"proc{n}", u)) for n, u in enumerate((u1, u2, u3), 1)]
    expected = torch.cat([grown(judged[0], 4), grown(judged[1], 2), judged[2]], 1)
    assert expected.shape == (2, 3, 8, 16)
    torch.testing.assert_close(network(x), expected, rtol=1e-3, atol=1e-3)


def test_the_unet_tells_its_features_when_asked() -> None:
    network, x = stirred(DiscriminatorUNetFea(in_nc=3, nf=8)), torch.rand(2, 3, 32, 32)
    w = network.state_dict()
    *_, fea3, fea4 = descended(w, x)
    u1 = ascended(w, "up1", fea4, fea3)
    logits, features = network(x, output_feature_vector=True)
    torch.testing.assert_close(logits, grown(conv(w, "collapse1.conv", block(w, "proc1", u1)), 4), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(features, conv(w, "fea_proc.conv", u1), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(network(x), logits)


def test_the_vgg_of_patches() -> None:
    network, x = stirred(DiscriminatorPix(in_nc=3, nf=8)), torch.rand(2, 3, 32, 32)
    w = network.state_dict()
    seen, y = [], x
    for i in range(5):
        y = conv(w, f"conv{i}_0", y)
        y = leaky_relu(gn(w, f"bn{i}_0", y) if i else y, 0.2)
        y = leaky_relu(gn(w, f"bn{i}_1", conv(w, f"conv{i}_1", y, 2)), 0.2)
        seen.append(y)
    small = conv(w, "pix_loss_collapse.conv", block(w, "reduce_1", y))
    third = torch.cat([block(w, "up3_decimate", grown(y, 2), act=False), seen[3]], 1)
    third = block(w, "up3_proc", block(w, "up3_converge", third))
    middle = conv(w, "up3_pix.conv", block(w, "up3_reduce", third))
    second = torch.cat([block(w, "up2_decimate", grown(third, 2), act=False), seen[2]], 1)
    second = block(w, "up2_proc", block(w, "up2_converge", second))
    large = conv(w, "up2_pix.conv", block(w, "up2_reduce", second))
    expected = torch.cat([grown(small, 4), grown(middle, 2), large], 1)
    torch.testing.assert_close(network(x), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("cls", [DiscriminatorUNet, DiscriminatorUNetFea, DiscriminatorPix])
def test_sides_have_to_halve_five_times(cls: Any) -> None:
    with pytest.raises(ValueError, match=r"sides that are multiples of 32, got \(1, 3, 32, 48\)"):
        cls(in_nc=3, nf=8)(torch.rand(1, 3, 32, 48))


@pytest.mark.parametrize("norm", ["batch", "instance", "none", "spectral"])
def test_a_patchs_logit_sees_seventy_pixels(norm: Any) -> None:
    network = DiscriminatorPatch(in_nc=3, nf=8, norm=norm).eval()
    x = torch.rand(1, 3, 128, 160, requires_grad=True)
    logits = network(x)
    assert logits.shape == (1, 1, 14, 18)
    if norm != "instance":  # whose statistics see everything
        logits[0, 0, 7, 9].backward()
        rows, columns = x.grad[0].abs().sum(0).nonzero(as_tuple=True)
        assert (rows.max() - rows.min(), columns.max() - columns.min()) == (69, 69)
    named = {name: tuple(value.shape) for name, value in network.state_dict().items() if name.endswith("weight")}
    if norm == "batch":
        assert named["model.0.weight"] == (8, 3, 4, 4) and named["model.11.weight"] == (1, 64, 4, 4)
    if norm == "spectral":
        layer = network.train()(x) is not None and network.model[2]
        for _ in range(50):
            network(x)
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-2)


def test_too_small_images_for_patches() -> None:
    with pytest.raises(ValueError, match=r"expected images of 24 pixels a side or more, got \(1, 3, 16, 64\)"):
        DiscriminatorPatch(in_nc=3, nf=8)(torch.rand(1, 3, 16, 64))
    assert DiscriminatorPatch(in_nc=3, nf=8)(torch.rand(2, 3, 24, 24)).shape == (2, 1, 1, 1)


def test_stylegans_discriminator() -> None:
    network, x = StyleGANDiscriminator(image_size=8), torch.rand(6, 3, 8, 8)
    w, gain = network.state_dict(), 2**0.5

    def scaled(name: str, x: Tensor, gain: float = gain) -> Tensor:
        kernel = w[f"{name}.weight"] * gain / w[f"{name}.weight"][0].numel() ** 0.5
        if kernel.ndim == 2:
            return x @ kernel.T + w[f"{name}.bias"]
        return conv2d(x, kernel, padding=kernel.shape[-1] // 2)

    def biased(name: str, x: Tensor) -> Tensor:
        return x + w[f"{name}.bias"].view(-1, 1, 1)

    y = biased("from_rgb.0", scaled("from_rgb.0", x))
    y = leaky_relu(biased("blocks.0.conv0", scaled("blocks.0.conv0", y)), 0.2)
    taps = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    y = conv2d(y.reshape(-1, 1, 8, 8), taps[None, None], padding=1).reshape(6, -1, 8, 8)
    y = leaky_relu(biased("blocks.0.conv1_down", avg_pool2d(scaled("blocks.0.conv1_down", y), 2)), 0.2)
    groups = [[0, 2, 4], [1, 3, 5]]  # of three, as four do not divide six
    deviations = torch.zeros(6, 1, 4, 4)
    for group in groups:
        deviations[group] = ((y[group] - y[group].mean(0)).square().mean(0) + 1e-8).sqrt().mean()
    y = torch.cat([y, deviations], 1)
    y = leaky_relu(biased("final_block.conv", scaled("final_block.conv", y)), 0.2)
    y = leaky_relu(scaled("final_block.dense0", y.flatten(1)), 0.2)
    torch.testing.assert_close(network(x), scaled("final_block.dense1", y, 1.0), rtol=1e-4, atol=1e-4)


def test_stylegans_discriminator_narrows_and_starts_with_deviation_one() -> None:
    network = StyleGANDiscriminator(image_size=128)
    assert network.from_rgb[0].weight.shape == (128, 3, 1, 1) and len(network.blocks) == 5
    assert [block.conv1_down.weight.shape[0] for block in network.blocks] == [256, 512, 512, 512, 512]
    assert network.blocks[2].conv0.weight.std().item() == pytest.approx(1, abs=0.01)
    assert network.blocks[0].blur.kernel.sum() == 1


def test_weights_of_the_ancestor_load_into_stylegans_discriminator() -> None:
    network = StyleGANDiscriminator(image_size=16)
    extra = {"from_rgb.1.weight": torch.zeros(1), "blocks.0.conv1_down.downscale.blur.kernel": torch.zeros(1)}
    assert network.adopt(network.state_dict() | extra).keys() == network.state_dict().keys()
