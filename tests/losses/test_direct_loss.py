import pytest
import torch

from gradloom.losses.direct import Direct


@pytest.mark.parametrize(("inverted", "sign"), [(False, 1), (True, -1)])
def test_is_the_mean_of_a_key(inverted: bool, sign: int) -> None:
    key = torch.tensor([[1.0, 2.0], [3.0, 6.0]], dtype=torch.float64, requires_grad=True)
    loss = Direct(key="kl", inverted=inverted)(key=key)
    loss.backward()
    assert loss.item() == sign * 3 and loss.dtype == torch.float64
    assert key.grad is not None and (key.grad == sign / 4).all()


def test_half_precision_is_averaged_in_float32() -> None:
    key = torch.tensor([2.0, 2.0, 3.0], dtype=torch.float16)
    torch.testing.assert_close(Direct(key="kl")(key=key), torch.tensor(7 / 3))


def test_annealing_ramps_up() -> None:
    part = Direct(key="kl", annealing_termination_step=4)
    assert part.scheduled
    values = []
    for iteration in range(7):
        part.advance(iteration, iterations_per_epoch=1)
        values.append(part(key=torch.tensor(8.0)).item())
    assert values == [8 * min(iteration, 4) / 4 for iteration in range(7)]


def test_does_not_change_over_the_run_without_annealing() -> None:
    assert not Direct(key="kl").scheduled
