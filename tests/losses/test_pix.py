from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gradloom.errors import RunError
from gradloom.losses.pix import Pix

torch.manual_seed(0)
FAKE = 4 * torch.randn(3, 2, 4, 5, dtype=torch.float64)
REAL = torch.randn(3, 2, 4, 5, dtype=torch.float64)

FORMULAS: dict[str, Callable[[Tensor], Tensor]] = {
    "l1": lambda x: x.abs(),
    "l2": lambda x: x**2,
    "charbonnier": lambda x: (x**2 + 1e-6) ** 0.5,
    "huber": lambda x: torch.where(x.abs() < 1, x**2 / 2, x.abs() - 0.5),
}


@pytest.mark.parametrize("criterion", FORMULAS)
def test_is_the_mean_of_the_criterion(criterion: str) -> None:
    loss = Pix(real="hq", fake="gen", criterion=criterion)(real=REAL, fake=FAKE)
    torch.testing.assert_close(loss, FORMULAS[criterion](FAKE - REAL).mean())


@pytest.mark.parametrize("criterion", FORMULAS)
def test_real_is_scaled_and_shifted(criterion: str) -> None:
    part = Pix(real="hq", fake="gen", criterion=criterion, real_scale=2, real_offset=-1)
    torch.testing.assert_close(part(real=REAL, fake=FAKE), FORMULAS[criterion](FAKE - (2 * REAL - 1)).mean())


@pytest.mark.parametrize("criterion", FORMULAS)
def test_gradients_where_images_are_equal_and_elsewhere(criterion: str) -> None:
    fake, real = FAKE.clone().requires_grad_(), REAL.clone().requires_grad_()
    part = Pix(real="hq", fake="gen", criterion=criterion)
    assert torch.autograd.gradcheck(lambda a, b: part(fake=a, real=b), (fake, real))
    part(real=real, fake=(same := real.detach().clone().requires_grad_())).backward()
    assert same.grad is not None and (same.grad == 0).all()


def test_cosine_compares_directions_at_each_place() -> None:
    loss = Pix(real="hq", fake="gen", criterion="cosine")(real=REAL, fake=FAKE)
    lengths = (REAL**2).sum(1).sqrt() * (FAKE**2).sum(1).sqrt()
    torch.testing.assert_close(loss, (1 - (REAL * FAKE).sum(1) / lengths).mean())
    vectors = [value.permute(0, 2, 3, 1).reshape(-1, 2) for value in (FAKE, REAL)]
    torch.testing.assert_close(loss, torch.nn.CosineEmbeddingLoss()(*vectors, torch.ones(len(vectors[0]))))
    assert Pix(real="hq", fake="gen", criterion="cosine")(real=REAL, fake=3 * REAL).abs() < 1e-12


def test_metrics_of_all_elements() -> None:
    part = Pix(real="hq", fake="gen", criterion="l1", real_scale=2, report_metrics=True)
    metrics = part(real=REAL, fake=FAKE)[1]
    torch.testing.assert_close(metrics["real_pix_mean"], 2 * REAL.mean())
    torch.testing.assert_close(metrics["fake_pix_std"], ((FAKE - FAKE.mean()) ** 2).sum().div(FAKE.numel() - 1) ** 0.5)


def test_the_metric_is_the_deviation_of_the_samples_means() -> None:
    loss, metrics = Pix(real="hq", fake="gen", criterion="l1", report_metrics=True)(real=REAL, fake=FAKE)
    means = torch.stack([(FAKE[i] - REAL[i]).abs().mean() for i in range(3)])
    torch.testing.assert_close(loss, means.mean())
    torch.testing.assert_close(metrics["std"], ((means - means.mean()) ** 2).mean() ** 0.5)


def test_half_precision_is_compared_in_float32() -> None:
    loss = Pix(real="hq", fake="gen", criterion="l2")(real=REAL.half(), fake=FAKE.half())
    torch.testing.assert_close(loss, ((FAKE.half().float() - REAL.half().float()) ** 2).mean())


def test_shapes_have_to_agree() -> None:
    with pytest.raises(
        RunError, match=r"'gen' and 'hq' must have the same shape, they have \(3, 1, 4, 5\) and \(3, 2, 4, 5\)"
    ):
        Pix(real="hq", fake="gen", criterion="l1")(real=REAL, fake=FAKE[:, :1])
