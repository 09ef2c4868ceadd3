"""Batch norm over several processes, held to torch's over all samples at once."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from gradloom.engine.norms import SharedBatchNorm1d, SharedBatchNorm2d, share_statistics


@dataclass
class Others:
    """Processes of which one runs, and the others hold what they would have sent."""

    held: list[Tensor] = field(default_factory=list)
    processes: int = 3

    def rows(self, row: Tensor) -> Tensor:
        return torch.stack([row, *self.held])


def row_of(x: Tensor) -> Tensor:
    """The number of values of a channel, means and variances."""
    values = x.transpose(0, 1).flatten(1)
    return torch.cat([torch.tensor([values.shape[1]]), values.mean(1), values.var(1, correction=0)])


def shared(norm: nn.Module, others: Others) -> nn.Module:
    network = share_statistics(nn.Sequential(norm), others)
    return network[0]  # type: ignore[index]


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("affine", [True, False])
def test_values_and_running_statistics_are_those_of_all_samples(momentum: float | None, affine: bool) -> None:
    whole = nn.BatchNorm2d(3, momentum=momentum, affine=affine).double()
    if affine:
        nn.init.uniform_(whole.weight)
        nn.init.uniform_(whole.bias)
    ours = nn.BatchNorm2d(3, momentum=momentum, affine=affine).double()
    ours.load_state_dict(whole.state_dict())
    others = Others()
    ours = shared(ours, others)
    for seed in range(3):
        torch.manual_seed(seed)
        pieces = [torch.randn(size, 3, 4, 5, dtype=torch.float64) * 3 + 7 for size in (2, 1, 4)]
        others.held = [row_of(piece) for piece in pieces[1:]]
        torch.testing.assert_close(ours(pieces[0]), whole(torch.cat(pieces))[:2], rtol=1e-12, atol=1e-12)
    assert ours.state_dict().keys() == whole.state_dict().keys()
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.eval()(pieces[0]), whole.eval()(pieces[0]), rtol=1e-12, atol=1e-12)


def test_images_of_several_sizes_count_by_their_pixels() -> None:
    pieces = [torch.randn(2, 3, 4, 5), torch.randn(1, 3, 9, 9)]
    ours = shared(nn.BatchNorm2d(3), Others([row_of(pieces[1])], 2))
    values = torch.cat([piece.transpose(0, 1).flatten(1) for piece in pieces], 1)
    expected = nn.BatchNorm1d(3)(values.T).T[:, :40].view(3, 2, 4, 5).transpose(0, 1)
    torch.testing.assert_close(ours(pieces[0]), expected)


def test_first_and_second_derivatives() -> None:
    ours = shared(nn.BatchNorm1d(2).double(), Others([row_of(torch.randn(3, 2, dtype=torch.float64))], 2))
    x = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(ours, x)
    torch.autograd.gradgradcheck(ours, x)


def test_half_precision_has_its_statistics_in_float32() -> None:
    x, other = torch.randn(4, 2, 8, 8) * 100, torch.randn(4, 2, 8, 8)
    ours = shared(nn.BatchNorm2d(2), Others([row_of(other.bfloat16().float())], 2))
    found = ours(x.bfloat16())
    assert found.dtype == torch.bfloat16
    expected = nn.BatchNorm2d(2)(torch.cat([x.bfloat16().float(), other.bfloat16().float()]))[:4]
    torch.testing.assert_close(found.float(), expected, rtol=1e-2, atol=1e-2)


def test_one_process_has_torchs_own() -> None:
    ours, theirs = shared(nn.BatchNorm2d(3), Others(processes=1)), nn.BatchNorm2d(3)
    x = torch.randn(4, 3, 2, 2)
    assert torch.equal(ours(x), theirs(x))
    assert torch.equal(ours.running_var, theirs.running_var)


def test_norms_are_replaced_wherever_they_stand() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.BatchNorm1d(2)
            self.again = self.first
            self.inner = nn.ModuleDict({"norm": nn.BatchNorm2d(3).eval(), "group": nn.GroupNorm(1, 2)})

    network = Nested()
    weight = network.first.weight
    assert share_statistics(network, Others()) is network
    assert isinstance(network.first, SharedBatchNorm1d) and network.again is network.first
    assert network.first.weight is weight
    assert isinstance(network.inner["norm"], SharedBatchNorm2d) and not network.inner["norm"].training
    assert type(network.inner["group"]) is nn.GroupNorm
    assert isinstance(share_statistics(nn.BatchNorm2d(3), Others()), SharedBatchNorm2d)


def test_a_network_without_batch_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="the network has no batch norm; remove it"):
        share_statistics(nn.Sequential(nn.Linear(2, 2), nn.GroupNorm(1, 2)), Others())
