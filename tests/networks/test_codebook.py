"""Codebooks: rounding, its gradients, and how codes follow, against formulas."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from gradloom.networks._codebook import DirectionCodes, MeanCodes


def means(**options):
    torch.manual_seed(0)
    return MeanCodes(**{"dim": 3, "size": 5, "decay": 0.9, **options}).double()


def vectors(*shape):
    return torch.randn(*shape, 3, dtype=torch.float64, requires_grad=True)


def test_vectors_are_rounded_to_the_nearest_code():
    codes, x = means(), vectors(2, 4, 4)
    found, loss, numbers = codes(x)
    expected = torch.cdist(x.flatten(0, -2), codes.table()).argmin(1).view(2, 4, 4)
    torch.testing.assert_close(numbers, expected)
    torch.testing.assert_close(found, codes.table()[expected])
    torch.testing.assert_close(loss, (codes.table()[expected] - x).square().mean())
    torch.testing.assert_close(codes.decode(numbers), found.detach())


def test_the_gradient_passes_straight_through_and_commitment_pulls_towards_codes():
    codes, x = means(), vectors(2, 4)
    weight = torch.randn_like(x)
    found, loss, numbers = codes(x)
    (found * weight).sum().backward(retain_graph=True)
    torch.testing.assert_close(x.grad, weight)
    x.grad = None
    loss.backward()
    torch.testing.assert_close(x.grad, 2 * (x - codes.table()[numbers]).detach() / x.numel())


def test_codes_are_sums_over_counts_that_are_moving_averages():
    """Appendix A.1, N_i and m_i with decay, and counts smoothed by Laplace; here of two steps, the first in two parts."""
    codes = means()
    count, total = torch.ones(5).double(), codes.table().clone()
    for parts in ((6, 4), (10,)):
        seen = [vectors(part) for part in parts]
        numbers = torch.cat([codes(x)[2] for x in seen])
        codes.learn()
        chosen = torch.nn.functional.one_hot(numbers, 5).double()
        count = 0.9 * count + 0.1 * chosen.sum(0)
        total = 0.9 * total + 0.1 * chosen.T @ torch.cat(seen).detach()
        smoothed = (count + 1e-5) / (count.sum() + 5e-5) * count.sum()
        torch.testing.assert_close(codes.table(), total / smoothed[:, None])
        torch.testing.assert_close(codes.cluster_size, count)
        torch.testing.assert_close(codes.embed_avg, total.T)


def test_codes_follow_only_what_is_rounded_while_training_with_gradients():
    codes, x = means(), vectors(8)
    before = codes.table().clone()
    codes.eval()(x)
    codes.train()(x.detach())
    with torch.no_grad():
        codes(x)
    codes.learn()
    torch.testing.assert_close(codes.table(), before)
    codes(x)
    codes.forget()
    codes.learn()
    torch.testing.assert_close(codes.table(), before)
    codes(x)
    torch.testing.assert_close(codes.table(), before)  # until the step is made
    codes.learn()
    assert not torch.equal(codes.table(), before)


def test_sums_that_are_not_finite_are_dropped():
    codes, x = means(), vectors(8)
    before = {name: value.clone() for name, value in codes.state_dict().items()}
    codes(torch.where(torch.arange(3) == 1, math.inf, x))
    codes.learn()
    torch.testing.assert_close(dict(codes.state_dict()), before)
    codes(x)
    codes.learn()
    assert codes.table().isfinite().all() and not torch.equal(codes.embed, before["embed"])


class Pair:
    """A company of two, the other of whom has what is written here."""

    processes = 2

    def __init__(self, number, *theirs):
        self.number, self.theirs = number, [*theirs]

    def add(self, tensor):
        tensor += self.theirs.pop(0)


def test_codes_of_two_processes_follow_what_both_rounded():
    alone, ours, theirs = means(), means(), means()
    x, y = vectors(6), vectors(3)
    alone(x), alone(y), ours(x), theirs(y)
    ours.company = Pair(0, torch.cat([theirs.counts[:, None], theirs.sums], 1))
    alone.learn(), ours.learn()
    torch.testing.assert_close(ours.table(), alone.table())


def test_codes_that_nobody_uses_move_to_where_they_would_be_used():
    codes = means(expiry=2)
    with torch.no_grad():
        codes.embed[:, 3:] = codes.embed_avg[:, 3:] = 100
    for step in range(2):
        x = vectors(20)
        codes(x)
        codes.learn()
        unused = codes.codebook_misses > 0
        if step == 0:
            assert unused[3:].all() and (codes.embed[:, 3:] > 90).all()
    moved = codes.table()[3:]
    assert (torch.cdist(moved, x.detach()).amin(1) == 0).all()
    torch.testing.assert_close(codes.cluster_size[3:], torch.ones(2).double())
    assert not codes.codebook_misses[3:].any()
    codes.expiry = 10**6
    assert codes(x)[2].unique().numel() >= 4


def test_each_of_two_processes_says_where_every_other_code_moves():
    codes = means(expiry=1)
    codes(vectors(4))
    codes.counts.zero_()
    codes.sums.zero_()
    samples, theirs = codes.samples.clone(), torch.randn(5, 3).double()
    theirs[0::2] = 0
    codes.company = Pair(0, torch.zeros(5, 4), theirs)
    codes.learn()
    expected = torch.where((torch.arange(5) % 2 == 0)[:, None], samples, theirs)
    torch.testing.assert_close(codes.table(), expected)


def test_directions_turn_towards_the_mean_direction_of_what_is_rounded_to_them():
    torch.manual_seed(0)
    codes, x = DirectionCodes(3, 4, 0.8).double(), vectors(7)
    before = codes.table().clone()
    found, loss, numbers = codes(x)
    expected = torch.nn.functional.cosine_similarity(x[:, None], before[None], dim=2).argmax(1)
    torch.testing.assert_close(numbers, expected)
    torch.testing.assert_close(found, before[expected])
    torch.testing.assert_close(loss, (before[expected] - x).square().mean())
    codes.learn()
    for place in range(4):
        mine = normalize(x.detach(), dim=1)[numbers == place]
        towards = normalize(mine.sum(0), dim=0) if len(mine) else normalize(before[place], dim=0)
        torch.testing.assert_close(codes.table()[place], 0.8 * before[place] + 0.2 * towards)


@pytest.mark.parametrize(("counts", "expected"), [([1.0, 1, 1, 1, 0], 4.0), ([3.0, 0, 0, 0, 0], 1.0), ([0.0] * 5, 1.0)])
def test_perplexity_is_how_many_codes_are_in_use(counts, expected):
    torch.testing.assert_close(means().perplexity(torch.tensor(counts)), torch.tensor(expected))


def test_half_precision_is_rounded_in_full():
    codes, x = MeanCodes(4, 16, 0.9), torch.randn(8, 4, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        found, _, numbers = codes(x.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(numbers, torch.cdist(x.detach().bfloat16().float(), codes.table()).argmin(1))
