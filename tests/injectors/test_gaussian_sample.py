import torch

from gradloom.injectors.gaussian_sample import GaussianSample


def test_is_the_mean_and_so_many_deviations_of_the_same_noise() -> None:
    mean, log_variance = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    torch.manual_seed(1)
    drawn = GaussianSample(mean="m", log_variance="v", out="z")(mean=mean, log_variance=log_variance)
    torch.manual_seed(1)
    noise = torch.randn(4, 3, dtype=torch.float64)
    deviation = log_variance.detach().exp().sqrt()
    torch.testing.assert_close(drawn.detach(), mean.detach() + deviation * noise)
    drawn.sum().backward()
    torch.testing.assert_close(mean.grad, torch.ones_like(mean))
    torch.testing.assert_close(log_variance.grad, deviation * noise / 2)
