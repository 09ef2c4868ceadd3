"""How far a student's opinions are from its teacher's."""

from typing import Annotated

from annotated_types import Gt
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from gradloom.parts import Loss, Read, Scalar, widen


class Distillation(Loss, type="distillation"):
    """Sums the Kullback-Leibler divergence of the student's classes from the teacher's, per sample.

    Logits of both are (B, C, d) or (B, C), with the classes along dimension 1. With p = softmax(teacher / T) and
    q = softmax(student / T), the loss is the sum of p ln(p / q) over classes and places, divided by B (Hinton et al.
    2015, arXiv 1503.02531, section 2, without its factor T²).
    """

    teacher: Read
    student: Read
    temperature: Annotated[float, Gt(0)] = 1.0  # T; larger minds unlikely classes more

    def forward(self, teacher: Tensor, student: Tensor) -> Scalar:
        target = log_softmax(widen(teacher) / self.temperature, 1)
        found = log_softmax(widen(student) / self.temperature, 1)
        return kl_div(found, target, reduction="batchmean", log_target=True)
