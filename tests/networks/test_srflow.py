"""SRFlow: what it maps can be mapped back, and its likelihoods are those of the change of variables."""

import copy
import math

import pytest
import torch
from torch.nn.functional import conv2d, interpolate, leaky_relu

from gradloom.config.binding import bind
from gradloom.config.source import parse
from gradloom.engine.recomputing import Recomputed
from gradloom.networks._flow import Flow, Norm, Split, Stack
from gradloom.networks._flow_layers import ActNorm2d, CondAffineSeparatedAndCond, Split2d
from gradloom.networks.srflow import SRFlow

TINY = {"nf": 4, "nb": 2, "scale": 4, "gc": 2}
BOTH = Flow(K=2, L=2, additionalFlowNoAffine=1, split=Split(enable=True, correct_splits=True, conditional=True),
            stackRRDB=Stack(blocks=[0, 1], concat=True))  # fmt: skip


def lively(flow=BOTH, dtype=torch.float64, **options):
    """A flow in which every weight counts, in eval mode."""
    torch.manual_seed(0)
    network = SRFlow(**{**TINY, **options}, flow=flow).to(dtype).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "invconv" not in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def images(height=8, width=8, dtype=torch.float64, factor=4):
    torch.manual_seed(1)
    return torch.rand(2, 3, height, width, dtype=dtype), torch.rand(
        2, 3, height // factor, width // factor, dtype=dtype
    )


@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize(
    "flow",
    [
        BOTH,
        Flow(K=[1, 2, 3], L=3, split=Split(enable=True, logs_eps=0.1, consume_ratio=0.25)),
        Flow(K=1, L=1, coupling="noCoupling"),
        Flow(K=2, L=2, norm=Norm(type="noNorm")),
    ],
    ids=["conditional splits", "three levels", "no coupling", "no norm"],
)
def test_what_it_maps_can_be_mapped_back(flow, dtype, near):
    network, (gt, lr) = lively(flow, dtype), images(16, 8, dtype)
    latents, _, logdet = network(gt, lr, add_gt_noise=False)
    again, negative, _ = network(None, lr, None, None, True, latents, add_gt_noise=False)
    torch.testing.assert_close(again, gt, atol=near, rtol=0)
    torch.testing.assert_close(negative, -logdet.detach(), atol=100 * near, rtol=0)
    assert sum(latent[0].numel() for latent in latents) == gt[0].numel()


def test_half_precision_is_for_the_features_alone():
    network, (gt, lr) = lively(dtype=torch.float32), images(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        latents, nll, _ = network(gt, lr, add_gt_noise=False)
        again = network(None, lr, None, None, True, latents, add_gt_noise=False)[0]
    assert nll.dtype == again.dtype == torch.float32
    torch.testing.assert_close(again, gt, atol=1e-4, rtol=0)
    assert not torch.equal(nll, network(gt, lr, add_gt_noise=False)[1])


def test_likelihoods_are_those_of_the_change_of_variables():
    """log p(x) = log |det dz/dx| + log N(z; 0, 1), with the Jacobian of all latents by autograd."""
    network, (gt, lr) = lively(), images(4, 4)
    features = {level: value.detach() for level, value in network.encode(lr).items()}

    def latents(x):
        return torch.cat([z.flatten() for z in network(x[None], lr[:1], lr_enc=first, add_gt_noise=False)[0]])

    first = {level: value[:1] for level, value in features.items()}
    jacobian = torch.autograd.functional.jacobian(latents, gt[0]).reshape(48, 48)
    z = latents(gt[0])
    log_density = -0.5 * (z.square().sum() + 48 * math.log(2 * math.pi))
    expected = -(torch.linalg.slogdet(jacobian)[1] + log_density) / (16 * math.log(2))
    _, nll, _ = network(gt, lr, lr_enc=features, add_gt_noise=False)
    torch.testing.assert_close(nll[0], expected)


def test_a_flow_that_only_moves_pixels_has_the_likelihood_of_a_gaussian():
    network, (gt, lr) = lively(Flow(K=1, L=1, coupling="noCoupling", norm=Norm(type="noNorm"))), images(4, 4)
    with torch.no_grad():
        network.flowUpsamplerNet.layers[1].invconv.weight.copy_(torch.eye(12))
    (z,), nll, logdet = network(gt, lr, add_gt_noise=False)
    expected = 0.5 * (gt.square() + math.log(2 * math.pi)).sum((1, 2, 3)) / (16 * math.log(2))
    torch.testing.assert_close(nll, expected)
    torch.testing.assert_close(logdet, torch.zeros_like(logdet))
    torch.testing.assert_close(z[:, 5], gt[:, 1, 0::2, 1::2])  # channels of one colour are together, row by row


def test_noise_is_one_step_wide_and_counts_once_for_each_pixel():
    flow = Flow(K=1, L=1, coupling="noCoupling", norm=Norm(type="noNorm"))
    network, (gt, lr) = lively(flow, quant=10), images(4, 4)
    with torch.no_grad():
        network.flowUpsamplerNet.layers[1].invconv.weight.copy_(torch.eye(12))
    (plain,), quiet, _ = network(gt, lr, add_gt_noise=False)
    (noisy,), nll, logdet = network(gt, lr)
    added = noisy - plain
    assert added.abs().max() <= 0.05 < added.abs().max() * 1.2
    torch.testing.assert_close(logdet, torch.full_like(logdet, -16 * math.log(10)))
    own = 0.5 * (noisy.square().sum((1, 2, 3)) - plain.square().sum((1, 2, 3))) / (16 * math.log(2))
    torch.testing.assert_close(nll - quiet, math.log2(10) + own)


def test_the_coupling_is_the_published_one():
    torch.manual_seed(0)
    coupling = CondAffineSeparatedAndCond(5, 3, 4, 1e-2).double()
    for parameter in coupling.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x, features = torch.randn(2, 5, 3, 3).double(), torch.randn(2, 3, 3, 3).double()
    weights = dict(coupling.state_dict())

    def network(name, given):
        for place, padding in ((0, 1), (2, 0)):
            given = conv2d(given, weights[f"{name}.{place}.weight"], padding=padding)
            norm = weights[f"{name}.{place}.actnorm.bias"], weights[f"{name}.{place}.actnorm.logs"]
            given = torch.relu((given + norm[0]) * norm[1].exp())
        made = conv2d(given, weights[f"{name}.4.weight"], weights[f"{name}.4.bias"], padding=1)
        made = made * (3 * weights[f"{name}.4.logs"]).exp()
        return made[:, ::2], torch.sigmoid(made[:, 1::2] + 2) + 1e-2

    shift, scale = network("fFeatures", features)
    y = (x + shift) * scale
    inner_shift, inner_scale = network("fAffine", torch.cat([y[:, :2], features], 1))
    expected = torch.cat([y[:, :2], (y[:, 2:] + inner_shift) * inner_scale], 1)
    made, gain = coupling.eval()(x, features)
    torch.testing.assert_close(made, expected)
    torch.testing.assert_close(gain, scale.log().sum((1, 2, 3)) + inner_scale.log().sum((1, 2, 3)))


def test_what_leaves_at_a_split_is_a_sample_of_the_gaussian_that_the_rest_predicts():
    torch.manual_seed(0)
    split = Split2d(6, 3, 0, 0.2).double()
    for parameter in split.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(2, 6, 4, 4).double()
    made = split.conv(x[:, :3])
    mean, deviation = made[:, ::2], made[:, 1::2].exp() + 0.2
    kept, latent, gain = split(x, x)
    expected = torch.distributions.Normal(mean, deviation).log_prob(x[:, 3:]).sum((1, 2, 3))
    standard = torch.distributions.Normal(0, 1).log_prob(latent).sum((1, 2, 3))
    torch.testing.assert_close(standard + gain, expected)
    torch.testing.assert_close(kept, x[:, :3])


class Others:
    """A company of two, of whom one says the same as we do but for what is added."""

    def __init__(self, *theirs):
        self.theirs = [*theirs]

    def add(self, tensor):
        tensor += self.theirs.pop(0)


def test_norms_start_from_the_first_batch_that_trains_them():
    torch.manual_seed(0)
    norm, x = ActNorm2d(3).double(), 5 + 3 * torch.randn(4, 3, 6, 6).double()
    norm.eval()(x)
    with torch.no_grad():
        norm.train()(x)
    norm(x, reverse=True)
    norm(torch.full_like(x, math.nan))
    assert not norm.measured
    y, gain = norm(x)
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(3).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(y.std((0, 2, 3), correction=0), torch.ones(3).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(gain, -36 * x.std((0, 2, 3), correction=0).log().sum(), atol=1e-4, rtol=0)
    assert norm.measured
    first = norm.first.clone()
    norm(10 * x)
    torch.testing.assert_close(norm.first, first)


def test_norms_start_from_the_batches_of_all_processes():
    torch.manual_seed(0)
    whole = torch.randn(6, 2, 4, 4).double() * 3 + 1
    ours, theirs = whole[:4], whole[4:]
    mean = whole.mean((0, 2, 3))
    alone, together = ActNorm2d(2).double(), ActNorm2d(2).double()
    together.company = Others(
        torch.cat([torch.tensor([32.0]), theirs.sum((0, 2, 3))]),
        (theirs - mean.view(-1, 1, 1)).square().sum((0, 2, 3)),
    )
    alone(whole), together(ours)
    torch.testing.assert_close(together.first, alone.first)


def test_a_norm_that_is_settled_asks_again_when_it_gets_another_state():
    norm, x = ActNorm2d(2), torch.randn(2, 2, 3, 3) + 4
    before = copy.deepcopy(norm.state_dict())
    norm(x)
    norm.settle()
    assert norm.settled
    norm.load_state_dict(before)
    norm(2 * x)
    torch.testing.assert_close(norm.first[0].flatten(), -2 * x.mean((0, 2, 3)))


def test_blocks_computed_anew_have_the_same_gradients_in_the_first_iteration_too():
    torch.manual_seed(0)
    plain = SRFlow(**TINY, flow=BOTH).double().train()
    anew = copy.deepcopy(plain)
    for layer in anew.flowUpsamplerNet.layers:
        if [*layer.children()]:
            layer.forward = Recomputed(layer)
    for iteration in range(2):
        found = []
        for network in (plain, anew):
            network.update_for_step(iteration)
            torch.manual_seed(7)
            network.zero_grad()
            network(*images(8, 8))[1].mean().backward()
            network.after_step(iteration)
            found.append([parameter.grad for parameter in network.flowUpsamplerNet.parameters()])
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other)
    assert all(norm.settled for norm in anew.modules() if isinstance(norm, ActNorm2d))


def test_features_are_those_of_the_network_and_of_its_blocks():
    network, (_, lr) = lively(Flow(K=1, L=4, stackRRDB=Stack(blocks=[1], concat=True))), images(16, 16)
    rrdb = network.RRDB
    first = rrdb.conv_first(lr)
    blocks = [rrdb.body[0](first)]
    blocks.append(rrdb.body[1](blocks[0]))
    trunk = blocks[1] + rrdb.conv_body(blocks[1])
    twice = rrdb.conv_up1(interpolate(trunk, scale_factor=2))
    four = rrdb.conv_up2(interpolate(leaky_relu(twice, 0.2), scale_factor=2))
    shown = network.encode(lr, image=True)
    torch.testing.assert_close(shown[1][:, :4], twice)
    torch.testing.assert_close(shown[1][:, 4:], interpolate(blocks[1], scale_factor=2))
    torch.testing.assert_close(shown[2], torch.cat([trunk, blocks[1]], 1))
    torch.testing.assert_close(shown[3][:, :4], trunk.unflatten(2, (2, 2)).unflatten(4, (2, 2)).mean((3, 5)))
    assert shown[4].shape == (2, 8, 1, 1)
    image = rrdb.conv_last(leaky_relu(rrdb.conv_hr(leaky_relu(four, 0.2)), 0.2))
    torch.testing.assert_close(shown[0], image)
    torch.testing.assert_close(rrdb(lr), image)


def test_it_draws_images_of_any_deviation_from_latents_it_is_given_or_draws():
    network, (gt, lr) = lively(), images(16, 8)
    mean = network(None, lr, None, 0.0, True)[0]
    torch.testing.assert_close(network(None, lr, None, 0.0, True)[0], mean)
    assert mean.shape == gt.shape
    spread = [(network(None, lr, None, tau, True)[0] - mean).abs().mean() for tau in (0.1, 0.9)]
    assert 0 < spread[0] < spread[1]
    zeros = [torch.zeros(shape).double() for shape in network.flowUpsamplerNet.shapes(network.encode(lr)[2])]
    torch.testing.assert_close(network(None, lr, zeros[-1], 0.0, True)[0], mean)
    torch.testing.assert_close(network(None, lr, None, None, True, zeros)[0], mean)
    assert not mean.requires_grad
    assert network(None, lr, None, 0.0, True, None, True)[0].requires_grad


def test_the_features_learn_if_and_when_they_are_to():
    def moved(**options):
        network, (gt, lr) = lively(**options), images()
        return network, lambda: network(gt, lr)[1].mean().backward() or network.RRDB.conv_first.weight.grad is not None

    assert not moved()[1]()
    assert moved(train_RRDB=True)[1]()
    network, learns = moved(train_RRDB=True, train_RRDB_delay=5)
    network.update_for_step(4)
    assert not learns()
    network.update_for_step(5)
    assert learns()
    assert {name for name, value in moved()[0].named_parameters() if value.requires_grad} == {
        name for name, _ in network.named_parameters() if name.startswith("flowUpsamplerNet")
    }


def test_debug_values_say_of_what_the_likelihood_consists():
    network, (gt, lr) = lively(), images()
    assert network.get_debug_values(0) == {}
    _, nll, _ = network(gt, lr)
    values = network.get_debug_values(0)
    torch.testing.assert_close(values["logp"] + values["logdet"], nll.mean().detach())


def test_weights_have_the_ancestors_names_and_its_files_are_taken_as_they_are():
    flow = Flow(K=1, L=2, additionalFlowNoAffine=1, split=Split(enable=True, correct_splits=True))
    network = lively(flow)
    own = {name for name in network.state_dict() if not name.endswith((".first", ".measured"))}
    predictor = [f"{place}.{kind}" for place in (0, 2) for kind in ("weight", "actnorm.bias", "actnorm.logs")]
    predictor += ["4.weight", "4.bias", "4.logs"]
    step = ["actnorm.bias", "actnorm.logs", "invconv.weight"]
    coupled = [*step, *(f"affine.{net}.{name}" for net in ("fAffine", "fFeatures") for name in predictor)]
    split = ["conv.weight", "conv.bias", "conv.logs"]
    layers = {1: step, 2: coupled, 3: split, 5: step, 6: coupled}
    assert {name for name in own if name.startswith("flow")} == {
        f"flowUpsamplerNet.layers.{place}.{name}" for place, names in layers.items() for name in names
    }
    rrdb = [f"body.{block}.rdb{dense}.conv{layer}" for block in (0, 1) for dense in (1, 2, 3) for layer in range(1, 6)]
    rrdb += ["conv_first", "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"]
    assert {name for name in own if name.startswith("RRDB")} == {
        f"RRDB.{name}.{kind}" for name in rrdb for kind in ("weight", "bias")
    }
    published = {name: name.replace("body.1.rdb2", "RRDB_trunk.1.RDB2").replace("conv_hr", "HRconv") for name in own}
    theirs = {published[name]: network.state_dict()[name] for name in own} | {
        "flowUpsamplerNet.f.0.weight": torch.zeros(3)
    }
    taken = SRFlow(**TINY, flow=flow).double()
    taken.load_state_dict(taken.adopt(theirs))
    gt, lr = images()
    torch.testing.assert_close(
        taken.train()(gt, lr, add_gt_noise=False)[1], network(gt, lr, add_gt_noise=False)[1]
    )  # training does not measure what is learnt


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("K: [1, 2], L: 3", "'flow' has 2 numbers in 'K' for 3 levels, 'L'; give one for each"),
        ("K: 1, L: 1, stackRRDB: {blocks: [0]}", "'flow' names blocks in 'stackRRDB' without using them"),
        ("K: 1, L: 1, stackRRDB: {blocks: [7], concat: true}", "'flow' names block 7 in 'stackRRDB'; there are 2"),
    ],
)
def test_flows_that_cannot_be_are_refused(text, said):
    node, _ = parse(f"flow: {{{text}}}", "x.yml")
    faults = []
    arguments = bind(SRFlow, node, faults, {*TINY})
    assert not faults
    with pytest.raises(ValueError, match=said):
        SRFlow(**TINY, **arguments)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"flow_scale": 16}, "'flow_scale' is at most twice 'scale'"),
        ({"train_RRDB_delay": 3}, "'train_RRDB_delay' is for 'train_RRDB: true'"),
        ({"rrdb_bypass": True}, "a multiple of 16 channels; 'nf' is 4"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        lively(**options)


def test_images_of_sizes_that_do_not_go_together_are_refused():
    network, (gt, lr) = lively(), images()
    with pytest.raises(ValueError, match=r"'gt' has to be of \(8, 8\) pixels, 4 for each pixel .* got \(8, 4\)"):
        network(gt[..., :4], lr)
    with pytest.raises(ValueError, match="srflow needs 'lr'"):
        network(gt)
    with pytest.raises(ValueError, match="srflow needs 'gt'"):
        network(None, lr)
