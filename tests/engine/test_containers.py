"""Tensors are found, changed and counted wherever they are."""

from collections import OrderedDict, namedtuple

import torch

from gradloom.engine.containers import detached, each, num_bytes, tensors

Pair = namedtuple("Pair", "first second")


def test_every_tensor_is_changed_and_the_containers_stay_what_they_are() -> None:
    one = torch.ones(2, requires_grad=True)
    value = {"a": [one, (one, "word")], "b": Pair(one, 3), "c": OrderedDict(d=one), "e": None}
    changed = each(value, lambda tensor: tensor * 2)
    assert [type(part) for part in (changed["a"], changed["a"][1], changed["b"])] == [list, tuple, Pair]
    assert (changed["a"][1][1], changed["b"].second, changed["e"]) == ("word", 3, None)
    assert [tensor.tolist() for tensor in tensors(changed)] == [[2.0, 2.0]] * 4
    assert num_bytes(changed) == 4 * 8
    assert all(tensor.requires_grad for tensor in tensors(changed))
    assert not any(tensor.requires_grad for tensor in tensors(detached(value)))
