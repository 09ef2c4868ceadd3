import math

import pytest
import torch
from torch import Tensor

from gradloom.losses.cross_entropy import CrossEntropy

torch.manual_seed(0)
LOGITS = torch.randn(6, 4, dtype=torch.float64)
LABELS = torch.tensor([0, 3, 1, 2, 2, 0])
MAPS = torch.randn(2, 4, 6, 6, dtype=torch.float64)


def log_softmax(logits: Tensor, dim: int) -> Tensor:
    return logits - logits.exp().sum(dim, keepdim=True).log()


def by_pixel(maps: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of maps (B, C, H, W) and labels (B, H, W), one pixel after another."""
    batch, _, height, width = maps.shape
    log_p = log_softmax(maps, 1)
    picked = [-log_p[b, labels[b, y, x], y, x] for b in range(batch) for y in range(height) for x in range(width)]
    return torch.stack(picked).mean()


def test_ce_of_vectors() -> None:
    loss = CrossEntropy(logits="l", labels="y")(logits=LOGITS, labels=LABELS, mask=None)
    torch.testing.assert_close(loss, -log_softmax(LOGITS, 1)[range(6), LABELS].mean())


def test_ce_takes_classes_last() -> None:
    loss = CrossEntropy(logits="l", labels="y")(logits=LOGITS.reshape(2, 3, 4), labels=LABELS.reshape(2, 3), mask=None)
    torch.testing.assert_close(loss, -log_softmax(LOGITS, 1)[range(6), LABELS].mean())


@pytest.mark.parametrize("channel", [True, False], ids=["(B, 1, H, W)", "(B, H, W)"])
@pytest.mark.parametrize("dtype", [torch.long, torch.uint8, torch.float64])
def test_ce_of_images_with_labels_of_another_size(channel: bool, dtype: torch.dtype) -> None:
    labels = torch.randint(4, (2, 3, 3))
    part = CrossEntropy(logits="l", labels="y", rescale=True, swap_channels=True)
    loss = part(logits=MAPS, labels=(labels.unsqueeze(1) if channel else labels).to(dtype), mask=None)
    torch.testing.assert_close(loss, by_pixel(MAPS, labels.repeat_interleave(2, 1).repeat_interleave(2, 2)))


@pytest.mark.parametrize("dtype", [torch.bool, torch.float64])
def test_a_mask_multiplies_the_logits(dtype: torch.dtype) -> None:
    logits, labels = MAPS.clone().requires_grad_(), torch.randint(4, (2, 6, 6))
    mask = torch.zeros(2, 3, 3, dtype=dtype)
    mask[0] = 1
    part = CrossEntropy(logits="l", labels="y", mask="m", rescale=True, swap_channels=True)
    loss = part(logits=logits, labels=labels, mask=mask)
    loss.backward()
    torch.testing.assert_close(loss, (by_pixel(MAPS[:1], labels[:1]) + math.log(4)) / 2)
    assert logits.grad is not None and (logits.grad[0] != 0).all() and (logits.grad[1] == 0).all()


@pytest.mark.parametrize("shape", [(6, 4), (24,), (6, 2, 2)])
def test_bce_takes_each_logit_for_itself(shape: tuple[int, ...]) -> None:
    labels = torch.rand(24, dtype=torch.float64)
    loss = CrossEntropy(logits="l", labels="y", subtype="bce")(logits=LOGITS.reshape(shape), labels=labels, mask=None)
    p = 1 / (1 + (-LOGITS.flatten()).exp())
    torch.testing.assert_close(loss, -(labels * p.log() + (1 - labels) * (1 - p).log()).mean())


def test_bce_takes_whole_numbers() -> None:
    loss = CrossEntropy(logits="l", labels="y", subtype="bce")(
        logits=LOGITS[:, 0], labels=LABELS.clamp(max=1), mask=None
    )
    signs = 1 - 2 * LABELS.clamp(max=1)
    torch.testing.assert_close(loss, (1 + (signs * LOGITS[:, 0]).exp()).log().mean())


@pytest.mark.parametrize("logits", [LOGITS, MAPS], ids=["vectors", "images"])
def test_soft_ce_takes_the_softmax_of_the_labels(logits: Tensor) -> None:
    labels = torch.randn_like(logits)
    loss = CrossEntropy(logits="l", labels="y", subtype="soft_ce")(logits=logits, labels=labels, mask=None)
    target = labels.exp() / labels.exp().sum(1, keepdim=True)
    torch.testing.assert_close(loss, -(target * log_softmax(logits, 1)).sum(1).mean())


def test_soft_ce_refuses_swapped_channels() -> None:
    with pytest.raises(ValueError, match="logits and labels as they are; remove 'swap_channels'"):
        CrossEntropy(logits="l", labels="y", subtype="soft_ce", swap_channels=True)


def test_half_precision_is_scored_in_float32() -> None:
    loss = CrossEntropy(logits="l", labels="y")(logits=LOGITS.half(), labels=LABELS, mask=None)
    torch.testing.assert_close(loss, -log_softmax(LOGITS.half().float(), 1)[range(6), LABELS].mean())
