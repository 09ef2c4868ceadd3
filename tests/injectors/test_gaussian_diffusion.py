"""What training a diffusion costs, against its formulas written out."""

import math

import pytest
import torch
from torch import nn

from gradloom.config.binding import make
from gradloom.config.source import parse
from gradloom.errors import RunError
from gradloom.injectors._channels import balanced
from gradloom.injectors._diffusion import DiffusionArgs
from gradloom.injectors._gaussians import gaussian_kl
from gradloom.injectors._noise_schedules import BetaSchedule
from gradloom.injectors._timesteps import HISTORY, BySecondMoment, spread
from gradloom.injectors.gaussian_diffusion import GaussianDiffusion

COUNT = 40
LEFT = torch.cumprod(1 - BetaSchedule("cosine", COUNT).betas(), 0)


def injector(mean="epsilon", variance="learned_range", loss="mse", sampler="uniform", **more):
    keys = {"out": "loss", "out_key_vb_loss": "vb", "out_key_x_start": "start"} | more
    args = DiffusionArgs(mean, variance, loss)
    schedule = BetaSchedule("cosine", COUNT)
    part = GaussianDiffusion(
        generator="g", in_="x", beta_schedule=schedule, diffusion_args=args, sampler_type=sampler, **keys
    )
    part.setup()
    return part


class Network(nn.Module):
    """Remembers what it was asked, and answers by a layer of its own."""

    def __init__(self, channels=6, extra=()):
        super().__init__()
        self.layer, self.extra = nn.Conv2d(3, channels, 1).double(), extra

    def forward(self, x, timesteps, **inputs):
        self.x, self.timesteps, self.inputs = x.detach(), timesteps, inputs
        self.answer = self.layer(x)
        return (self.answer, *self.extra) if self.extra else self.answer


def images(size=5):
    torch.manual_seed(3)
    return torch.rand(size, 3, 2, 2, dtype=torch.float64) * 2 - 1


def run(part, network, size=5, seed=0, **inputs):
    """What a part writes for some images, and the noise that it must have drawn."""
    x = images(size)
    torch.manual_seed(seed)
    written = part(generator=network, in_=x, model_input_keys=inputs)
    left = LEFT[network.timesteps].reshape(-1, 1, 1, 1)
    return x, (network.x - left.sqrt() * x) / (1 - left).sqrt(), written


def each(values):
    return values.flatten(1).mean(1)


def posterior(x, x_t, t):
    """Mean and variance of the timestep before, of which the first has none."""
    before = torch.cat([LEFT.new_ones(1), LEFT[:-1]])[t].reshape(-1, 1, 1, 1)
    left = LEFT[t].reshape(-1, 1, 1, 1)
    beta = 1 - left / before
    mean = (before.sqrt() * beta * x + (1 - beta).sqrt() * (1 - before) * x_t) / (1 - left)
    return mean, beta * (1 - before) / (1 - left), beta


def test_noise_is_standard_and_timesteps_are_all_alike():
    torch.manual_seed(0)
    part, network = injector("epsilon", "fixed_small", out_key_vb_loss=None), Network(3)
    _, noise, _ = run(part, network, size=4000)
    assert noise.mean().item() == pytest.approx(0, abs=0.01) and noise.std().item() == pytest.approx(1, abs=0.01)
    counts = network.timesteps.bincount(minlength=COUNT)
    assert counts.min() > 60 and counts.max() < 145  # 100 each, plus or minus 4.5 deviations


@pytest.mark.parametrize("mean", ["epsilon", "start_x", "previous_x"])
@pytest.mark.parametrize("loss", ["mse", "rescaled_mse"])
def test_the_mean_squared_error_of_what_is_predicted(mean, loss):
    network = Network()
    x, noise, (out, _, start) = run(injector(mean, loss=loss), network)
    x_t, t = network.x, network.timesteps
    before, _, _ = posterior(x, x_t, t)
    target = {"epsilon": noise, "start_x": x, "previous_x": before}[mean]
    torch.testing.assert_close(out, each((target - network.answer[:, :3]) ** 2))
    network.answer = torch.cat([target, target], 1)  # had it been right, it would have meant the image
    network.forward = lambda *_, **__: network.answer
    torch.manual_seed(0)
    out, _, start = injector(mean, loss=loss)(generator=network, in_=x, model_input_keys={})
    torch.testing.assert_close(out, torch.zeros_like(out))
    torch.testing.assert_close(start, x, rtol=1e-5, atol=1e-7)


def bound_of(network, x, variance_of):
    """The terms for t > 0, in bits, of a network that predicts noise."""
    x_t, t = network.x, network.timesteps
    left = LEFT[t].reshape(-1, 1, 1, 1)
    start = (x_t - (1 - left).sqrt() * network.answer[:, :3]) / left.sqrt()
    mean, smallest, largest = posterior(x, x_t, t)
    estimate, _, _ = posterior(start, x_t, t)
    logs = variance_of(smallest.log(), largest.log(), network.answer[:, 3:])
    return gaussian_kl(mean, smallest.log().expand_as(x), estimate, logs.expand_as(x)) / math.log(2)


@pytest.mark.parametrize(
    ("variance", "channels", "of"),
    [
        ("fixed_small", 3, lambda low, high, v: low),
        ("fixed_large", 3, lambda low, high, v: high),
        ("learned", 6, lambda low, high, v: v),
        ("learned_range", 6, lambda low, high, v: (v + 1) / 2 * high + (1 - v) / 2 * low),
    ],
)
def test_the_terms_of_the_bound_with_each_variance(variance, channels, of):
    for loss, factor in (("mse", 1), ("rescaled_mse", COUNT / 1000), ("kl", 1), ("rescaled_kl", 1)):
        network = Network(channels)
        x, _, (out, bound, _) = run(injector(variance=variance, loss=loss), network, size=30)
        later = network.timesteps > 1
        expected = bound_of(network, x, of)
        torch.testing.assert_close(bound[later], expected[later] * factor, rtol=1e-5, atol=1e-9)
        if "kl" in loss:
            times = COUNT if loss == "rescaled_kl" else 1
            torch.testing.assert_close(out[later], each(expected)[later] * times, rtol=1e-5, atol=1e-9)


def test_the_first_timestep_costs_what_its_8_bit_values_do():
    network, part = Network(), injector(loss="kl")
    part.sampler.draw = lambda size, device: (torch.zeros(size, dtype=torch.long), None)
    x, _, (out, _, _) = run(part, network)
    left = LEFT[0]
    start = (network.x - (1 - left).sqrt() * network.answer[:, :3]) / left.sqrt()
    _, second, _ = posterior(x[:1], x[:1], torch.tensor([1]))
    share = (network.answer[:, 3:] + 1) / 2
    scale = (0.5 * (share * (1 - left).log() + (1 - share) * second.log())).exp()
    gaussian = torch.distributions.Normal(start, scale)
    probability = gaussian.cdf(x + 1 / 255) - gaussian.cdf(x - 1 / 255)
    sure = probability > 1e-6
    nats = part.diffusion.bound(
        part.diffusion.estimate(network.answer[:, :3], network.answer[:, 3:], network.x, network.timesteps),
        x, network.x, network.timesteps,
    )  # fmt: skip
    assert sure.any()
    torch.testing.assert_close(nats[sure], -probability[sure].log2(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(out, each(nats))


def gradients(part):
    """Whether prediction and variance learn from out, and from vb."""
    found = []
    for place in (0, 1):
        network = Network()
        _, _, written = run(part, network)
        if not written[place].requires_grad:
            found.append((False, False))
            continue
        (gradient,) = torch.autograd.grad(written[place].sum(), network.answer)
        found.append((bool(gradient[:, :3].any()), bool(gradient[:, 3:].any())))
    return found


def test_what_learns_from_what():
    assert gradients(injector(loss="mse")) == [(True, False), (False, True)]
    assert gradients(injector(loss="kl")) == [(True, True), (False, False)]


def test_networks_get_their_inputs_and_what_they_return_beside_is_written():
    extra = (torch.ones(()), "words")
    network, part = Network(extra=extra), injector(extra_model_output_keys=("one", "two"))
    _, _, written = run(part, network, low_res=7, free=True)
    assert network.inputs == {"low_res": 7, "free": True}
    assert part.writes() == ("loss", "vb", "start", "one", "two") and written[3:] == extra
    with pytest.raises(RunError, match="one stand for 2 things"):
        run(injector(extra_model_output_keys=("one",)), network)


def test_keys_that_are_left_out_are_not_returned():
    part = injector(out_key_x_start=None, out_key_sampler_warmed_up="warm")
    _, _, written = run(part, Network())
    assert part.writes() == ("loss", "vb", "warm") and len(written) == 3 and written[2] == 1


def test_quarters_of_the_timesteps_are_measured_without_bias():
    keys = {"out_key_upper_quantile_mse_loss": "high", "out_key_mid_upper_quantile_mse_loss": "mid"}
    part, network = injector("epsilon", "fixed_small", out_key_vb_loss=None, **keys), Network(3)
    _, _, (out, _, high, mid) = run(part, network, size=4000)
    t = network.timesteps
    assert high.item() == pytest.approx(out[t >= COUNT * 3 // 4].mean().item(), rel=0.1)
    assert mid.item() == pytest.approx(out[(t >= COUNT // 2) & (t < COUNT * 3 // 4)].mean().item(), rel=0.1)
    assert not high.requires_grad
    exact = 4 * (out * (t >= COUNT * 3 // 4)).mean()
    torch.testing.assert_close(high, exact.detach())


def test_channels_that_count():
    network = Network(3)
    part = injector("epsilon", "fixed_small", channel_restriction_low=1, channel_restriction_high=2)
    _, noise, (out, bound, _) = run(part, network)
    errors = (noise - network.answer) ** 2
    torch.testing.assert_close(out, errors[:, 1].flatten(1).mean(1) / 3)
    assert bound[:, 1].any() and not bound[:, [0, 2]].any()


def test_balanced_channels_are_kept_by_their_share_of_the_error():
    errors = torch.tensor([1.0, 4.0, 3.0]).reshape(1, 3, 1, 1).expand(5, 3, 2, 2)
    torch.manual_seed(0)
    kept = torch.stack([balanced(errors, 0.6).flatten() for _ in range(2000)])
    expected = [3 * 0.6 / 8, 3 * 0.6 * 4 / 8, 3 * 0.6 * 3 / 8]
    assert kept.mean(0).tolist() == pytest.approx(expected, abs=0.04)
    assert balanced(errors, 9.0).flatten().tolist() == [1, 1, 1] == balanced(errors * 0, 1.0).flatten().tolist()
    part = injector("epsilon", "fixed_small", channel_balancer_proportion=1e-9)
    _, _, (out, bound, _) = run(part, Network(3))
    assert not out.any() and not bound.any()


def test_timesteps_that_are_spread_evenly():
    assert spread(4, 40, 4, 0, torch.device("cpu")).tolist() == [0, 10, 20, 30]
    assert spread(3, 40, 8, 6, torch.device("cpu")).tolist() == [30, 35, 0]
    part, network = injector(deterministic_timesteps_every=3, deterministic_sampler_expected_batch_size=8), Network()
    assert part.scheduled and not injector().scheduled
    part.advance(6, 1)
    seen = [(run(part, network, size=4), network.timesteps.tolist())[1] for _ in range(2)]
    assert seen == [[0, 5, 10, 15], [20, 25, 30, 35]]
    part.advance(9, 1)
    run(part, network, size=4)
    assert network.timesteps.tolist() == seen[0]
    part.advance(7, 1)
    run(part, network, size=400)
    assert network.timesteps.unique().numel() == COUNT


def test_in_eval_mode_timesteps_are_spread_from_a_random_one_on():
    part, network = injector(sampler="loss-second-moment"), Network().eval()
    firsts = set()
    for seed in range(20):
        run(part, network, size=4, seed=seed)
        distances = network.timesteps.diff() % COUNT
        assert distances.tolist() == [COUNT // 4] * 3
        firsts.add(network.timesteps[0].item())
    assert len(firsts) > 8 and not part.sampler.seen.any()


def test_draws_by_second_moments_are_uniform_at_first_and_unbiased_later():
    sampler = BySecondMoment(3)
    t = torch.tensor([0, 1, 2]).repeat(HISTORY - 1)
    sampler.learn(t, torch.full((len(t),), 9.0))
    assert sampler.warmed_up() == 0 and sampler.probabilities().tolist() == pytest.approx([1 / 3] * 3)
    for losses in (torch.arange(1.0, 11), torch.arange(11.0, 21)):  # the later ones replace the earlier ones
        sampler.learn(torch.zeros(10, dtype=torch.long), losses)
    sampler.learn(torch.tensor([1, 2, 1]), torch.tensor([9.0, 9.0, math.nan]))
    assert sampler.warmed_up() == 1
    root = math.sqrt(sum(loss**2 for loss in range(11, 21)) / 10)
    expected = [0.999 * moment / (root + 18) + 0.001 / 3 for moment in (root, 9, 9)]
    assert sampler.probabilities().tolist() == pytest.approx(expected)
    torch.manual_seed(0)
    drawn, weights = sampler.draw(20_000, torch.device("cpu"))
    shares = drawn.bincount(minlength=3) / 20_000
    assert shares.tolist() == pytest.approx(expected, abs=0.015)
    values = torch.tensor([5.0, 1.0, 2.0])
    assert (values[drawn] * weights).mean().item() == pytest.approx(values.mean().item(), rel=0.02)


def test_costs_are_weighed_by_how_likely_timesteps_were_and_remembered_as_they_were():
    part, network = injector(sampler="loss-second-moment"), Network()
    history = torch.arange(1.0, COUNT + 1)[:, None].expand(-1, HISTORY)
    part.sampler.history.copy_(history)
    part.sampler.seen.fill_(HISTORY)
    probabilities = part.sampler.probabilities().double()
    _, noise, (out, bound, _) = run(part, network)
    t = network.timesteps
    plain = each((noise - network.answer[:, :3]) ** 2)
    weights = 1 / (COUNT * probabilities[t])
    torch.testing.assert_close(out, plain * weights, rtol=1e-5, atol=0)
    whole = plain + each(bound / weights.reshape(-1, 1, 1, 1))
    for i, step in enumerate(t.tolist()):
        if (t == step).sum() == 1:
            assert part.sampler.history[step, 0].item() == pytest.approx(whole[i].item(), rel=1e-5)
    assert {"sampler.history", "sampler.seen"} == {*part.state_dict()}


def test_a_method_of_the_network_prepares_the_images():
    network = Network()
    network.prepare = lambda x, t, diffusion: x * 0 + len(diffusion)
    _, _, (_, _, start) = run(injector("start_x", preprocess_fn="prepare"), network)
    left = LEFT[network.timesteps].reshape(-1, 1, 1, 1)
    noise = (network.x - left.sqrt() * COUNT) / (1 - left).sqrt()
    assert noise.abs().max() < 5 and start.shape == (5, 3, 2, 2)


def test_a_network_of_other_channels_is_refused():
    with pytest.raises(RunError, match=r"learned_range: the network must return \(5, 6, 2, 2\), got \(5, 3, 2, 2\)"):
        run(injector(), Network(3))


@pytest.mark.parametrize("sampler", ["uniform", "loss-second-moment"])
def test_without_values_it_tells_shapes(sampler):
    part, network = injector(sampler=sampler, channel_balancer_proportion=0.5).to("meta"), Network().to("meta")
    x = torch.empty(4, 3, 2, 2, device="meta", dtype=torch.float64)
    for mode in (True, False):
        out, bound, start = part(generator=network.train(mode), in_=x, model_input_keys={})
        assert out.shape == (4,) and bound.shape == start.shape == x.shape


OPTIONS = """
type: gaussian_diffusion
generator: g
in: x
beta_schedule: {{schedule_name: linear, num_diffusion_timesteps: {count}}}
diffusion_args: {{model_mean_type: epsilon, model_var_type: {variance}, loss_type: mse{args}}}
sampler_type: uniform
model_input_keys: {{low_res: lq, corruption_factor: [a, 0.5], flag: true}}
out: loss
{more}
"""


def read(count=100, variance="fixed_small", args="", more=""):
    node, faults = parse(OPTIONS.format(count=count, variance=variance, args=args, more=more), "x.yml")
    part = make(GaussianDiffusion, node, faults, {"type"})
    return part, [str(fault) for fault in faults]


def test_options_of_a_file():
    part, faults = read()
    assert not faults and part.reads() == ("x", "lq", "a") and part.writes() == ("loss",)
    assert part.diffusion_args.loss_type == "mse" and part.beta_schedule.num_diffusion_timesteps == 100


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"more": "causal_mode: true"}, "x.yml:10:1: causal_mode: 'causal_mode' is for sequences such as audio"),
        ({"more": "causal_slope_range: [1, 8]"}, "x.yml:10:1: causal_slope_range: 'causal_slope_range' is for"),
        ({"args": ", conditioning_free: true"}, "x.yml:6:1: diffusion_args: 'diffusion_args' has 'conditioning_free'"),
        ({"more": "channel_restriction_low: 1"}, "x.yml:10:1: channel_restriction_low: 'channel_restriction_low' has"),
        (
            {"more": "channel_restriction_low: 1\nchannel_restriction_high: 2\nchannel_balancer_proportion: 1"},
            "'channel_balancer_proportion' is there with 'channel_restriction_low'",
        ),
        ({"variance": "learned"}, "'out_key_vb_loss' is what a variance that is learned learns from; write a key"),
        ({"count": 20}, "beta_schedule.num_diffusion_timesteps: 'num_diffusion_timesteps' of a linear schedule is 21"),
        ({"more": "sampler_typ: uniform"}, "unknown option; did you mean 'sampler_type'?"),
        ({"args": ", model_men_type: start_x"}, "diffusion_args.model_men_type: unknown option; did you mean"),
    ],
)
def test_what_is_wrong_is_said_at_its_place(options, fault):
    _, faults = read(**options)
    assert len(faults) == 1 and fault in faults[0]
