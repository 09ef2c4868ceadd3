"""Gaussian diffusion against closed forms, where data is Gaussian and the best network is known."""

import math

import numpy
import pytest
import torch
from scipy.stats import norm
from torch import nn

from gradloom.injectors._diffusion import Diffusion, DiffusionArgs
from gradloom.injectors._gaussians import discretised_nll, gaussian_kl
from gradloom.injectors._noise_schedules import BetaSchedule, evenly, with_stride
from gradloom.injectors._sampling import ancestral, ddim

SCHEDULES = [BetaSchedule("linear", 100), BetaSchedule("cosine", 50)]


def diffusion(schedule=SCHEDULES[0], kept=None, mean="epsilon", variance="learned", **more):
    return Diffusion(schedule, DiffusionArgs(mean, variance, **more), kept)


def left_of(schedule):
    """What is left of an image's variance after each timestep, multiplied out."""
    left, product = [], 1.0
    for beta in schedule.betas().tolist():
        product *= 1 - beta
        left.append(product)
    return left


def double(value, size=1):
    return torch.full((size, 1), value, dtype=torch.float64)


def at(step, size=1):
    return torch.full((size,), step)


def test_the_linear_schedule_is_the_papers_at_a_thousand_and_keeps_its_sum_elsewhere():
    betas = BetaSchedule("linear", 1000).betas()
    assert betas.dtype == torch.float64
    numpy.testing.assert_allclose(betas, numpy.linspace(1e-4, 0.02, 1000), rtol=1e-12)
    for count in (250, 4000):
        assert BetaSchedule("linear", count).betas().sum().item() == pytest.approx(betas.sum().item(), rel=1e-9)


def test_the_cosine_schedule_leaves_what_its_equation_says():
    count = 50

    def left(t):
        return math.cos((t / count + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2

    expected = [left(t + 1) for t in range(count)]
    found = left_of(BetaSchedule("cosine", count))
    assert found[:-1] == pytest.approx(expected[:-1], rel=1e-9)
    assert BetaSchedule("cosine", count).betas()[-1] == 0.999


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_noise_and_what_is_left_of_the_image_have_the_products_shares(schedule):
    chain = diffusion(schedule)
    for step, left in enumerate(left_of(schedule)):
        one, none = double(1.0), double(0.0)
        assert chain.noised(one, at(step), none).item() == pytest.approx(math.sqrt(left), rel=1e-10)
        assert chain.noised(none, at(step), one).item() == pytest.approx(math.sqrt(1 - left), rel=1e-10)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_posterior_is_what_bayes_makes_of_the_two_gaussians(schedule):
    chain, left, betas = diffusion(schedule), left_of(schedule), schedule.betas().tolist()
    for step in range(1, len(betas)):
        alpha, prior = 1 - betas[step], 1 - left[step - 1]
        variance = 1 / (alpha / betas[step] + 1 / prior)
        mean = variance * (math.sqrt(alpha) * 0.7 / betas[step] + math.sqrt(left[step - 1]) * -0.3 / prior)
        found = chain.posterior_mean(double(-0.3), double(0.7), at(step))
        assert found.item() == pytest.approx(mean, rel=1e-9)
        smallest = chain.log_variance(double(-1.0), double(0.0), at(step))  # a logarithm as it comes
        assert smallest.item() == -1.0
        fixed = diffusion(schedule, variance="fixed_small").log_variance(None, double(0.0), at(step))
        assert fixed.exp().item() == pytest.approx(variance, rel=1e-8)


def test_the_first_timestep_has_the_seconds_smallest_variance_and_the_image_as_its_mean():
    small = diffusion(variance="fixed_small")
    first, second = (small.log_variance(None, double(0.0), at(step)).item() for step in (0, 1))
    assert first == second
    large = diffusion(variance="fixed_large")
    assert large.log_variance(None, double(0.0), at(0)).item() == second
    betas = SCHEDULES[0].betas()
    assert large.log_variance(None, double(0.0), at(1)).exp().item() == pytest.approx(betas[1].item(), rel=1e-9)
    assert small.posterior_mean(double(0.4), double(9.0), at(0)).item() == pytest.approx(0.4, rel=1e-12)


@pytest.mark.parametrize("step", [1, 7, 99])
def test_a_learned_range_lies_between_the_two_fixed_variances(step):
    ends = [
        diffusion(variance=kind).log_variance(None, double(0.0), at(step)) for kind in ("fixed_small", "fixed_large")
    ]
    learned = diffusion(variance="learned_range")
    for value, share in ((-1.0, 0.0), (1.0, 1.0), (0.0, 0.5), (0.5, 0.75), (3.0, 2.0)):
        found = learned.log_variance(double(value), double(0.0), at(step))
        assert found.item() == pytest.approx((share * ends[1] + (1 - share) * ends[0]).item(), rel=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_respaced_chain_has_the_products_of_alphas_between_its_timesteps(schedule):
    kept = [0, 3, 4, 20, 49]
    chain, alphas = diffusion(schedule, kept, variance="fixed_large"), (1 - schedule.betas()).tolist()
    for place, step in enumerate(kept[1:], 1):
        beta = 1 - math.prod(alphas[kept[place - 1] + 1 : step + 1])
        assert chain.log_variance(None, double(0.0), at(place)).exp().item() == pytest.approx(beta, rel=1e-9)
        left = math.prod(alphas[: step + 1])
        assert chain.noised(double(1.0), at(place), double(0.0)).item() == pytest.approx(math.sqrt(left), rel=1e-9)
    assert chain.original.tolist() == kept


def test_what_timesteps_are_kept():
    assert evenly(1000, 1000) == list(range(1000))
    assert evenly(4000, 5) == [0, 1000, 2000, 2999, 3999]
    assert evenly(10, 1) == [0]
    assert with_stride(4000, 50) == list(range(0, 4000, 80))
    assert with_stride(10, 4) == [0, 3, 6, 9]
    with pytest.raises(ValueError, match=r"none passes 7 of them; write 5$"):
        with_stride(10, 7)


class Told(nn.Module):
    def forward(self, x, timesteps, **inputs):
        self.timesteps, self.inputs = timesteps, inputs
        return x


def test_networks_are_told_of_the_timesteps_of_the_whole_schedule():
    network, x = Told(), double(0.0, 2)
    diffusion(kept=[0, 50, 99]).ask(network, x, torch.tensor([1, 2]), {"low_res": 3})
    assert network.timesteps.tolist() == [50, 99] and network.inputs == {"low_res": 3}
    diffusion(kept=[0, 50, 99], rescale_timesteps=True).ask(network, x, torch.tensor([1, 2]), {})
    assert network.timesteps.tolist() == [500.0, 990.0]


@pytest.mark.parametrize("mean", [-0.99, -0.5, 0.0, 0.31, 0.8, 1.3])
@pytest.mark.parametrize("scale", [0.0005, 0.003, 0.05, 0.7])
def test_a_discretised_gaussian_is_the_integral_over_each_bin_and_sums_to_one(mean, scale):
    values = torch.linspace(-1, 1, 256, dtype=torch.float64)
    nats = discretised_nll(values, torch.full_like(values, mean), torch.full_like(values, 2 * math.log(scale)))
    assert nats.neg().exp().sum().item() == pytest.approx(1, rel=1e-9)
    borders = [-numpy.inf, *((values[1:] + values[:-1]) / 2).tolist(), numpy.inf]
    tails = [(norm.sf if border > mean else norm.cdf)(border, mean, scale) for border in borders]  # the small one
    for place in range(256):
        low, high = tails[place], tails[place + 1]
        if (borders[place] > mean) == (borders[place + 1] > mean) and max(low, high) > 1e-300:
            assert nats[place].item() == pytest.approx(-math.log(abs(high - low)), rel=1e-6)


def test_a_discretised_gaussian_has_finite_gradients_far_from_its_mean():
    values = torch.linspace(-1, 1, 256)
    mean = torch.full_like(values, -0.9, requires_grad=True)
    logs = torch.full_like(values, -16.0, requires_grad=True)
    loss = discretised_nll(values, mean, logs)
    loss.sum().backward()
    assert loss.isfinite().all() and mean.grad.isfinite().all() and logs.grad.isfinite().all()
    expected = (values[200] + 0.9 - 1 / 255) ** 2 / 2 * math.exp(16)  # the tail's leading term
    assert loss[200].item() == pytest.approx(expected.item(), rel=1e-3)


def test_the_divergence_is_that_of_torch():
    torch.manual_seed(0)
    mean, logs, other, other_logs = torch.randn(4, 100, dtype=torch.float64)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (logs / 2).exp()), torch.distributions.Normal(other, (other_logs / 2).exp())
    )
    torch.testing.assert_close(gaussian_kl(mean, logs, other, other_logs), expected)


SPREAD = 0.6  # standard deviation of the data, whose mean is 0


def exact(chain, left, x, t):
    """The noise that one expects of x_t for Gaussian data, and the log variance of x_{t-1} given it."""
    step = int(t[0])
    before = left[step - 1] if step else 1.0
    total, earlier = left[step] * SPREAD**2 + 1 - left[step], before * SPREAD**2 + 1 - before
    alpha = left[step] / before
    variance = 1 / (1 / earlier + alpha / (1 - alpha))
    return math.sqrt(1 - left[step]) / total * x, torch.full_like(x, math.log(variance))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_bound_of_the_best_network_is_the_information_that_each_timestep_loses(schedule):
    """I(x_0; x_{t-1}) - I(x_0; x_t), with I = log2(1 + snr * var) / 2 bits; quadrature is exact for a quadratic form."""
    chain, left = diffusion(schedule), left_of(schedule)
    nodes, weights = numpy.polynomial.hermite_e.hermegauss(4)
    weights = weights / weights.sum()
    x_start = torch.tensor([[SPREAD * a] for a in nodes for _ in nodes])
    noise = torch.tensor([[b] for _ in nodes for b in nodes])
    shares = torch.tensor([wa * wb for wa in weights for wb in weights])

    def information(step):
        return 0.5 * math.log2(1 + left[step] / (1 - left[step]) * SPREAD**2)

    for step in range(1, len(left)):
        t = at(step, len(shares))
        x_t = chain.noised(x_start, t, noise)
        estimate = chain.estimate(*exact(chain, left, x_t, t), x_t, t)
        found = (chain.bound(estimate, x_start, x_t, t)[:, 0] * shares).sum().item()
        assert found == pytest.approx(information(step - 1) - information(step), rel=1e-6, abs=1e-12)


def test_the_bound_takes_each_samples_own_timestep_whatever_the_number_of_channels():
    torch.manual_seed(0)
    chain = diffusion()
    for size in (1, 2, 3, 5):
        x_start, x_t, prediction, logs = torch.randn(4, size, 3, 2, 2, dtype=torch.float64)
        t = torch.arange(size) % 3
        bound = chain.bound(chain.estimate(prediction, logs, x_t, t), x_start, x_t, t)
        for i in range(size):
            alone = slice(i, i + 1)
            estimate = chain.estimate(prediction[alone], logs[alone], x_t[alone], t[alone])
            if t[i] == 0:
                expected = discretised_nll(x_start[alone], estimate.mean, estimate.log_variance)
            else:
                smallest = diffusion(variance="fixed_small").log_variance(None, x_t[alone], t[alone])
                mean = chain.posterior_mean(x_start[alone], x_t[alone], t[alone])
                expected = gaussian_kl(mean, smallest, estimate.mean, estimate.log_variance)
            torch.testing.assert_close(bound[alone], expected / math.log(2))


@pytest.mark.parametrize("kept", [None, with_stride(100, 10)])
def test_ddim_scales_gaussian_data_by_the_products_of_its_steps(kept):
    schedule = SCHEDULES[0]
    chain = diffusion(schedule, kept)
    left = [left_of(schedule)[step] for step in kept or range(100)]

    def asked(x, t):
        return chain.estimate(*exact(chain, left, x, t), x, t)

    factor = 1.0
    for step in reversed(range(len(left))):
        before = left[step - 1] if step else 1.0
        total = left[step] * SPREAD**2 + 1 - left[step]
        factor *= (math.sqrt(before * left[step]) * SPREAD**2 + math.sqrt((1 - before) * (1 - left[step]))) / total
    noise = torch.randn(5, 1, dtype=torch.float64)
    torch.testing.assert_close(ddim(chain, asked, noise), factor * noise, rtol=1e-9, atol=0)


def test_many_small_steps_of_ddim_turn_a_normal_distribution_into_the_datas():
    schedule = BetaSchedule("linear", 4000)
    chain, left = diffusion(schedule), left_of(schedule)

    def asked(x, t):
        return chain.estimate(*exact(chain, left, x, t), x, t)

    assert ddim(chain, asked, double(1.0)).item() == pytest.approx(SPREAD, rel=5e-3)


def test_ancestral_sampling_of_the_best_network_draws_the_datas_distribution():
    torch.manual_seed(0)
    schedule = BetaSchedule("cosine", 30)
    chain, left = diffusion(schedule), left_of(schedule)

    def asked(x, t):
        return chain.estimate(*exact(chain, left, x, t), x, t)

    drawn = ancestral(chain, asked, torch.randn(100_000, 1, dtype=torch.float64))
    first = left[0] * SPREAD**2 / (left[0] * SPREAD**2 + 1 - left[0])  # the last step takes a mean, not a draw
    assert drawn.std().item() == pytest.approx(SPREAD * math.sqrt(first), rel=0.01)
    assert drawn.mean().item() == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ddim_with_eta_one_is_ancestral_sampling_with_the_smallest_variance(schedule):
    chain = diffusion(schedule, variance="fixed_small")

    def asked(x, t):
        return chain.estimate(0.3 * x.sin(), None, x, t)

    results = []
    for sample in (lambda x: ddim(chain, asked, x, eta=1.0), lambda x: ancestral(chain, asked, x)):
        torch.manual_seed(0)
        results.append(sample(torch.randn(4, 3, 2, 2, dtype=torch.float64)))
    torch.testing.assert_close(results[0], results[1], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("mean", ["epsilon", "start_x", "previous_x"])
@pytest.mark.parametrize("clip", [False, True])
def test_whatever_is_predicted_means_the_image_it_was_made_of(mean, clip):
    torch.manual_seed(0)
    chain = diffusion(mean=mean, variance="fixed_small")
    x_start, noise = torch.rand(6, 3, 2, 2, dtype=torch.float64) * 2 - 1, torch.randn(6, 3, 2, 2, dtype=torch.float64)
    t = torch.tensor([0, 1, 2, 50, 98, 99])
    x_t = chain.noised(x_start, t, noise)
    estimate = chain.estimate(chain.target(x_start, x_t, t, noise), None, x_t, t, clip)
    torch.testing.assert_close(estimate.x_start, x_start, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(estimate.mean, chain.posterior_mean(x_start, x_t, t), rtol=1e-6, atol=1e-9)


def test_clipping_moves_the_mean_with_the_image():
    chain = diffusion(mean="start_x", variance="fixed_small")
    x_t, t = double(0.2), at(40)
    estimate = chain.estimate(double(1.7), None, x_t, t, clip=True)
    assert estimate.x_start.item() == 1
    assert estimate.mean.item() == chain.posterior_mean(double(1.0), x_t, t).item()


def test_float32_looks_up_what_was_computed_in_float64():
    chain = diffusion()
    assert chain.rounded.dtype == torch.float32 and not [*chain.state_dict()]
    for name in ("image", "mean_of_start", "log_smallest"):
        exactly = chain.at(name, at(40), double(0.0))
        assert chain.at(name, at(40), torch.zeros(1, 1)).item() == exactly.float().item()


@pytest.mark.parametrize("count", [1, 20])
def test_a_linear_schedule_that_would_add_more_noise_than_there_can_be_is_refused(count):
    with pytest.raises(ValueError, match="of a linear schedule is 21 or more"):
        BetaSchedule("linear", count)
