"""VQ-VAE-2 and the discrete autoencoder: their arithmetic, their gradients, and what they are saved as."""

import copy

import pytest
import torch
from torch.nn.functional import conv2d, conv_transpose2d, relu

from gradloom.engine.recomputing import Recomputed
from gradloom.networks.dvae import DiscreteVAE
from gradloom.networks.vqvae import VQVAE, Residual

TINY = {"channel": 8, "n_res_block": 1, "n_res_channel": 4, "codebook_dim": 4, "codebook_size": 6}


def tiny(**options):
    torch.manual_seed(0)
    return VQVAE(**{**TINY, **options}).double()


def images(size=16):
    torch.manual_seed(1)
    return torch.rand(2, 3, size, size, dtype=torch.float64)


def published(weights, x):
    """VQ-VAE-2 as one function of its weights, by the ancestor's names."""

    def layer(name, given, stride=1, padding=0):
        return conv2d(given, weights[f"{name}.weight"], weights[f"{name}.bias"], stride, padding)

    def larger(name, given):
        return conv_transpose2d(given, weights[f"{name}.weight"], weights[f"{name}.bias"], 2, 1)

    def residual(name, given):
        given = relu(given)
        return given + layer(f"{name}.conv.3", relu(layer(f"{name}.conv.1", given, padding=1)))

    def rounded(name, given):
        table = weights[f"{name}.embed"].T
        flat = given.movedim(1, -1)
        codes = table[torch.cdist(flat.flatten(0, -2), table).argmin(1)].view(flat.shape)
        return codes.movedim(-1, 1), (codes - flat).square().mean()

    e = relu(layer("enc_b.blocks.0", x, 2, 1))
    e = relu(layer("enc_b.blocks.2", e, 2, 1))
    bottom = relu(residual("enc_b.blocks.5", layer("enc_b.blocks.4", e, padding=1)))
    t = relu(layer("enc_t.blocks.0", bottom, 2, 1))
    t = relu(residual("enc_t.blocks.3", layer("enc_t.blocks.2", t, padding=1)))
    top, top_loss = rounded("quantize_t", layer("quantize_conv_t", t))
    d = residual("dec_t.blocks.1", layer("dec_t.blocks.0", top, padding=1))
    d = larger("dec_t.blocks.3", relu(d))
    fine, fine_loss = rounded("quantize_b", layer("quantize_conv_b", torch.cat([d, bottom], 1)))
    out = layer("dec.blocks.0", torch.cat([larger("upsample_t", top), fine], 1), padding=1)
    out = relu(larger("dec.blocks.3", relu(residual("dec.blocks.1", out))))
    return larger("dec.blocks.5", out), top_loss + fine_loss


def test_it_computes_what_was_published():
    network, x = tiny(), images()
    made, loss = network(x)
    expected, expected_loss = published(network.state_dict(), x)
    torch.testing.assert_close(made, expected)
    torch.testing.assert_close(loss, expected_loss)


def test_numbers_of_codes_are_decoded_to_the_same_images():
    network, x = tiny(), images(32)
    top, bottom, _, top_numbers, bottom_numbers = network.encode(x)
    assert (top_numbers.shape, bottom_numbers.shape) == ((2, 4, 4), (2, 8, 8))
    torch.testing.assert_close(network.decode_code(top_numbers, bottom_numbers), network(x)[0])
    torch.testing.assert_close(network.decode(top, bottom), network(x)[0])


def test_both_encoders_learn_with_blocks_computed_anew_as_without():
    plain = tiny()
    anew = copy.deepcopy(plain)
    for block in anew.modules():
        if isinstance(block, Residual):
            block.forward = Recomputed(block)
    for network in (plain, anew):
        made, loss = network(images())
        ((made - images()).square().mean() + 0.25 * loss).backward()
        network.after_step(0)
    for (name, one), other in zip(plain.named_parameters(), anew.parameters(), strict=True):
        assert one.grad.abs().max() > 0, name
        torch.testing.assert_close(one.grad, other.grad)
    torch.testing.assert_close(dict(plain.named_buffers()), dict(anew.named_buffers()))


def test_codes_follow_after_the_step():
    network = tiny()
    before = network.quantize_t.embed.clone(), network.quantize_b.embed.clone()
    network(images())
    network.update_for_step(1)
    network.after_step(1)
    torch.testing.assert_close(network.quantize_t.embed, before[0])
    network(images())
    network.after_step(1)
    assert not torch.equal(network.quantize_t.embed, before[0])
    assert not torch.equal(network.quantize_b.embed, before[1])
    torch.testing.assert_close(network.quantize_t.cluster_size.sum(), torch.tensor(0.99 * 6 + 0.01 * 8).double())
    values = network.get_debug_values(1)
    assert {*values} == {"perplexity_top", "perplexity_bottom"} and all(1 <= value <= 6 for value in values.values())


def test_what_a_step_has_not_learnt_is_no_part_of_its_state():
    network = tiny(restart_after=3)
    buffers = {name for name in network.state_dict() if name.startswith("quantize_t.")}
    assert buffers == {f"quantize_t.{name}" for name in ("embed", "cluster_size", "embed_avg", "codebook_misses")}
    assert "quantize_t.codebook_misses" not in tiny().state_dict()


def test_images_of_odd_sizes_are_refused():
    with pytest.raises(ValueError, match=r"sides are multiples of 8, got \(12, 12\)"):
        tiny()(images(12))
    with pytest.raises(ValueError, match=r"sides are multiples of 4 here, got \(10, 10\)"):
        discrete()(images(10))


def discrete(**options):
    torch.manual_seed(0)
    base = {"num_tokens": 6, "codebook_dim": 8, "hidden_dim": 4, "num_layers": 2}
    return DiscreteVAE(**{**base, **options}).double()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"quantizer_use_cosine_sim": False, "quantizer_codebook_embedding_compression": 2, "activation": "silu"},
        {"num_resnet_blocks": 2, "kernel_size": 5},
    ],
)
def test_a_discrete_autoencoder_returns_errors_and_what_its_codes_stand_for(options):
    network, x = discrete(**options), images()
    errors, loss, out = network(x)
    torch.testing.assert_close(errors, (out - x).square())
    assert loss.shape == ()
    torch.testing.assert_close(network.decode(network.get_codebook_indices(x)), out)
    (errors.mean() + loss).backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in network.encoder.parameters())
    before = network.quantizer._codebook.embed.clone()
    shares = network.get_codebook_indices(x).flatten().bincount(minlength=6).double() / 32
    entropy = -torch.special.xlogy(shares, shares).sum()
    network.after_step(0)
    assert not torch.equal(network.quantizer._codebook.embed, before)
    torch.testing.assert_close(network.get_debug_values(0)["perplexity"], torch.exp(entropy))
    assert network.get_codebook_indices(images(24)[..., :16]).shape == (2, 6, 4)


def test_a_discrete_autoencoder_of_rows():
    x = torch.rand(2, 5, 12).double()
    assert discrete(positional_dims=1, channels=5)(x)[2].shape == x.shape


def test_a_discrete_autoencoder_has_the_ancestors_layers():
    network = discrete(num_resnet_blocks=1, quantizer_codebook_embedding_compression=2)
    layers = [f"encoder.{name}" for name in ("0.0", "1.0", "2.net.0", "2.net.2", "2.net.4", "3")]
    layers += [f"decoder.{name}" for name in ("0", "1.net.0", "1.net.2", "1.net.4", "2.0.conv", "3.0.conv", "4")]
    layers += ["quantizer.project_in", "quantizer.project_out"]
    expected = {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    buffers = {"quantizer._codebook.embed", "quantizer._codebook.codebook_misses"}
    assert {*network.state_dict()} == expected | buffers


@pytest.mark.parametrize("directions", [True, False])
def test_a_discrete_autoencoder_takes_the_ancestors_weights(directions):
    network = discrete(quantizer_use_cosine_sim=directions)
    own = {name: value.clone() for name, value in network.state_dict().items()}
    theirs = {name.replace("_codebook.codebook", "codebook"): value for name, value in own.items()}
    theirs |= {"quantizer._codebook.initted": torch.ones(1), "discrete_loss.accumulator": torch.zeros(3)}
    if not directions:
        theirs |= {name: own[name].T for name in own if "embed" in name}
    torch.testing.assert_close(network.adopt(theirs), own)
    torch.testing.assert_close(network.adopt(own), own)


def test_kernels_of_even_width_are_refused():
    with pytest.raises(ValueError, match="'kernel_size' has to be odd"):
        discrete(kernel_size=4)
