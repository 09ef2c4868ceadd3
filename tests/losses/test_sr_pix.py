import torch

from gradloom.losses.sr_pix import SrPix

torch.manual_seed(0)
FAKE = torch.rand(2, 3, 8, 4, dtype=torch.float64)
REAL = torch.rand(2, 3, 8, 4, dtype=torch.float64)


def weights(scale: int, base: float, power: float) -> torch.Tensor:
    blocks = torch.nn.functional.avg_pool2d(REAL, scale).repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    return ((REAL - blocks).abs() + base) ** power


def test_its_value_is_the_mean_square_and_its_gradient_is_weighted() -> None:
    fake = FAKE.clone().requires_grad_()
    loss, metrics = SrPix(real="hq", fake="gen", scale=2, base_loss=0.3, exp=1.5)(real=REAL, fake=fake)
    squares = (FAKE - REAL) ** 2
    torch.testing.assert_close(loss.detach(), squares.mean())
    torch.testing.assert_close(metrics["l2_loss"], squares.mean())
    loss.backward()
    w = weights(2, 0.3, 1.5)
    share = squares.mean() / (w * squares).mean()
    torch.testing.assert_close(fake.grad, share * w * 2 * (FAKE - REAL) / FAKE.numel())


def test_a_pixel_of_detail_pulls_harder_than_with_plain_squares() -> None:
    real = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    real[0, 0, 1, 1] = 1.0
    fake = torch.full_like(real, 0.5).requires_grad_()
    SrPix(real="hq", fake="gen", scale=4)(real=real, fake=fake)[0].backward()
    assert fake.grad is not None
    assert fake.grad[0, 0, 1, 1].abs() > 5 * fake.grad[0, 0, 5, 5].abs() > 0


def test_equal_images_cost_nothing() -> None:
    fake = REAL.clone().requires_grad_()
    loss, _ = SrPix(real="hq", fake="gen", scale=2)(real=REAL, fake=fake)
    loss.backward()
    assert loss == 0 and fake.grad is not None and (fake.grad == 0).all()
