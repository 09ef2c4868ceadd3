import pytest
import torch

from gradloom.errors import RunError
from gradloom.losses.direct import Direct


@pytest.mark.parametrize(("inverted", "sign"), [(False, 1), (True, -1)])
def test_is_the_mean_of_a_key(inverted: bool, sign: int) -> None:
    key = torch.tensor([[1.0, 2.0], [3.0, 6.0]], dtype=torch.float64, requires_grad=True)
    loss = Direct(key="kl", inverted=inverted)(key=key, metrics=None)
    loss.backward()
    assert loss.item() == sign * 3 and loss.dtype == torch.float64
    assert key.grad is not None and (key.grad == sign / 4).all()


def test_half_precision_is_averaged_in_float32() -> None:
    key = torch.tensor([2.0, 2.0, 3.0], dtype=torch.float16)
    torch.testing.assert_close(Direct(key="kl")(key=key, metrics=None), torch.tensor(7 / 3))


def test_annealing_ramps_up() -> None:
    part = Direct(key="kl", annealing_termination_step=4)
    assert part.scheduled
    values = []
    for iteration in range(7):
        part.advance(iteration, iterations_per_epoch=1)
        values.append(part(key=torch.tensor(8.0), metrics=None).item())
    assert values == [8 * min(iteration, 4) / 4 for iteration in range(7)]


def test_does_not_change_over_the_run_without_annealing() -> None:
    assert not Direct(key="kl").scheduled


def test_tells_the_numbers_that_a_network_returned_beside_its_loss() -> None:
    key = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
    told = {"kl": 2 * key, "each": torch.tensor([1, 2]), "count": 3, "share": 0.25}
    loss, metrics = Direct(key="loss", metrics="told", inverted=True)(key=key, metrics=told)
    assert loss.item() == -4
    assert {name: value.item() for name, value in metrics.items()} == {"kl": 8, "each": 1.5, "count": 3, "share": 0.25}
    assert all(value.dtype == torch.float64 and not value.requires_grad for value in metrics.values())


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (torch.zeros(()), "what 'metrics' names, 'told', has to be a mapping of numbers, got a Tensor"),
        ({"a": 1, "name": "x"}, "'name' of 'told' has to be a number or a tensor, got a str"),
    ],
)
def test_refuses_what_are_no_numbers(told: object, why: str) -> None:
    with pytest.raises(RunError, match=why):
        Direct(key="loss", metrics="told")(key=torch.zeros(()), metrics=told)
