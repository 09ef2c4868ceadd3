import pytest
import torch

from gradloom.losses.distillation import Distillation

torch.manual_seed(0)


@pytest.mark.parametrize("shape", [(3, 5, 4), (3, 5)])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_is_the_divergence_of_classes_summed_per_sample(shape: tuple[int, ...], temperature: float) -> None:
    teacher, student = (torch.randn(shape, dtype=torch.float64) for _ in range(2))
    loss = Distillation(teacher="t", student="s", temperature=temperature)(teacher=teacher, student=student)
    p = (teacher / temperature).exp() / (teacher / temperature).exp().sum(1, keepdim=True)
    q = (student / temperature).exp() / (student / temperature).exp().sum(1, keepdim=True)
    torch.testing.assert_close(loss, (p * (p / q).log()).sum() / 3)


def test_agreement_costs_nothing_and_a_class_ruled_out_is_no_trouble() -> None:
    logits = torch.tensor([[0.0, -1000.0, 2.0]], dtype=torch.float64, requires_grad=True)
    loss = Distillation(teacher="t", student="s")(teacher=logits.detach(), student=logits)
    loss.backward()
    assert loss == 0 and logits.grad is not None and logits.grad.isfinite().all()
