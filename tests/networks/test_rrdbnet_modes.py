"""What RRDBNet may return and be given, and its sibling with maps, against their arithmetic written out."""

from pathlib import Path
from typing import Any

import pytest
import torch
from test_rrdbnet import lively
from torch import Tensor, nn
from torch.nn.functional import conv2d, group_norm, interpolate, leaky_relu, pad

from gradloom.networks.RRDBNet import RRDBNet
from gradloom.networks.RRDBNetBypass import RRDBNetBypass


def layer(weights: dict[str, Tensor], name: str, x: Tensor, stride: int = 1) -> Tensor:
    kernel = weights[f"{name}.weight"]
    return conv2d(x, kernel, weights.get(f"{name}.bias"), stride, kernel.shape[-1] // 2)


def dense(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    seen = x
    for i in range(1, 5):
        seen = torch.cat([seen, leaky_relu(layer(weights, f"{name}.conv{i}", seen), 0.2)], 1)
    return x + 0.2 * layer(weights, f"{name}.conv5", seen)


def three(weights: dict[str, Tensor], block: str, x: Tensor) -> Tensor:
    for j in (1, 2, 3):
        x = dense(weights, f"{block}.rdb{j}", x)
    return x


def enlarged(weights: dict[str, Tensor], features: Tensor, doublings: int) -> Tensor:
    for i in range(max(2, doublings)):
        features = interpolate(features, scale_factor=2.0) if i < doublings else features
        features = leaky_relu(layer(weights, f"conv_up{i + 1}", features), 0.2)
    return layer(weights, "conv_last", leaky_relu(layer(weights, "conv_hr", features), 0.2))


def stirred(network: nn.Module) -> Any:
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network.double()


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_features_are_what_the_image_is_made_of(scale: int) -> None:
    x = torch.rand(2, 3, 6, 5)
    both, alone, plain = (lively(scale=scale, output_mode=mode) for mode in ("hq+features", "features_only", "hq_only"))
    image, features = both(x)
    torch.testing.assert_close(alone(x), features)
    torch.testing.assert_close(plain(x), image)
    assert features.shape == (2, 4, 6, 5) and plain.state_dict().keys() == alone.state_dict().keys()
    doublings = {1: 0, 2: 1, 4: 2}[scale]
    torch.testing.assert_close(enlarged(both.state_dict(), features, doublings), image)


def test_without_the_long_skip_the_bodys_output_is_added() -> None:
    network, x = lively(long_skip=False, output_mode="features_only"), torch.rand(1, 3, 6, 6)
    weights = network.state_dict()
    body = layer(weights, "conv_first", x)
    for i in range(2):
        body = body + 0.2 * three(weights, f"body.{i}", body)
    torch.testing.assert_close(network(x), body + layer(weights, "conv_body", body))


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_reference_is_seen_beside_the_enlarged_input(scale: int) -> None:
    network, x = lively(scale=scale, use_ref=True, output_mode="hq+features"), torch.rand(2, 3, 6, 4)
    ref = torch.rand(2, 3, 6 * scale, 4 * scale)
    weights = network.state_dict()
    assert weights["conv_first.weight"].shape == (4, 6, *[3 if scale == 1 else 7] * 2)

    def features(large: Tensor) -> Tensor:
        first = layer(
            weights,
            "conv_first",
            torch.cat([interpolate(x, scale_factor=float(scale), mode="bicubic"), large], 1),
            scale,
        )
        body = first
        for i in range(2):
            body = body + 0.2 * three(weights, f"body.{i}", body)
        return first + layer(weights, "conv_body", body)

    image, found = network(x, ref)
    torch.testing.assert_close(found, features(ref))
    assert image.shape == ref.shape
    torch.testing.assert_close(network(x)[1], features(torch.zeros_like(ref)))


def test_a_headless_network_takes_features_and_a_reference() -> None:
    options = {"out_nc": 3, "nf": 6, "nb": 2, "scale": 2, "gc": 3, "headless": True, "feature_channels": 4}
    network = stirred(RRDBNet(in_nc=2, output_mode="hq+features", **options))
    weights = network.state_dict()
    assert "conv_first.weight" not in weights and weights["conv_ref_first.conv.weight"].shape == (4, 3, 7, 7)
    x, ref = torch.rand(1, 2, 5, 5).double(), torch.rand(1, 3, 10, 10).double()
    body = torch.cat([x, layer(weights, "conv_ref_first.conv", ref, 2)], 1)
    for i in range(2):
        reduced = layer(weights, f"body.{i}.reducer.conv", three(weights, f"body.{i}", body))
        body = body + 0.2 * pad(reduced, (0, 0, 0, 0, 0, 2))
    features = body[:, :4] + layer(weights, "conv_body", body[:, :4])
    image, found = network(x, ref)
    torch.testing.assert_close(found, features)
    torch.testing.assert_close(image, enlarged(weights, features, 1))
    whole = stirred(RRDBNet(in_nc=6, **options))
    assert whole(torch.rand(1, 6, 5, 5).double()).shape == (1, 3, 10, 10)
    with pytest.raises(ValueError, match="the blocks take 6 features, nf; there are 2"):
        whole(x)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"use_ref": True, "headless": True}, "keep one of them"),
        ({"use_ref": True, "initial_stride": 2}, "'use_ref' takes no 'initial_stride'"),
        ({"headless": True, "additive_mode": "additive"}, "'headless' takes no 'initial_stride', 'unshuffle' or 'additive_mode'"),
        ({"headless": True, "feature_channels": 2}, "in_nc of a headless network is 4, as nf is, or 2 where"),
        ({"output_mode": "features_only", "additive_mode": "additive"}, "with output_mode 'features_only' there is none"),
    ],
)  # fmt: skip
def test_modes_that_do_not_go_together(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        lively(**options)


def test_a_reference_that_nobody_expects() -> None:
    with pytest.raises(ValueError, match="a second input is a reference, which takes 'use_ref' or 'headless'"):
        lively()(torch.rand(1, 3, 4, 4), torch.rand(1, 3, 16, 16))


BYPASS = {"in_nc": 3, "out_nc": 3, "nf": 8, "nb": 2, "scale": 2, "gc": 3}


def test_each_block_is_weighed_by_its_map(tmp_path: Path) -> None:
    network, x = stirred(RRDBNetBypass(**BYPASS, output_mode="features_only")), torch.rand(2, 3, 5, 5).double()
    weights = network.state_dict()
    first = body = layer(weights, "conv_first", x)
    for i in range(2):
        made = three(weights, f"body.{i}", body)
        name = f"body.{i}.bypass"
        seen = layer(weights, f"{name}.0.conv", torch.cat([body, made], 1))
        seen = group_norm(seen, 8, weights[f"{name}.0.gn.weight"], weights[f"{name}.0.gn.bias"])
        seen = seen * torch.sigmoid(seen)
        seen = layer(weights, f"{name}.1.conv", seen)
        part = torch.sigmoid(layer(weights, f"{name}.2.conv", seen * torch.sigmoid(seen)))
        body = body + 0.2 * made * part
        assert f"{name}.1.conv.bias" not in weights and part.shape == (2, 1, 5, 5)
    torch.testing.assert_close(network(x), first + layer(weights, "conv_body", body))
    torch.testing.assert_close(network.body[1].bypass_map, part)
    network.visual_dbg(7, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["7_bypass_1.png", "7_bypass_2.png"]


def test_noise_on_maps_is_for_one_batch_in_five_while_training() -> None:
    network, x = stirred(RRDBNetBypass(**BYPASS, bypass_noise=True)), torch.rand(1, 3, 5, 5).double()
    plain = network.eval()(x)
    assert torch.equal(plain, network(x))
    network.train()
    noisy = sum(not torch.equal(plain, network(x)) for _ in range(100))
    assert 20 <= noisy <= 55  # 1 - 0.8² of two blocks' maps
    with pytest.raises(ValueError, match="nf has to be a multiple of 8 for the group norms of the maps; 12 is none"):
        RRDBNetBypass(**{**BYPASS, "nf": 12})


def test_weights_of_the_first_release_load() -> None:
    network = lively()
    own = network.state_dict()
    then = {"conv_body": "trunk_conv", "body.": "RRDB_trunk.", "rdb": "RDB", "conv_up": "upconv", "conv_hr": "HRconv"}

    def first(name: str) -> str:
        for now, before in then.items():
            name = name.replace(now, before)
        return name

    old = {first(name): value for name, value in own.items()}
    assert "RRDB_trunk.1.RDB2.conv3.weight" in old and "upconv2.bias" in old
    adopted = network.adopt(old)
    assert adopted.keys() == own.keys() and all(adopted[name] is old[first(name)] for name in own)
