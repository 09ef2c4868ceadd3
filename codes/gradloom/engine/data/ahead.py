"""Send batches to a GPU while it still computes with the one before."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from gradloom.engine.data.feed import Fetched


def sent_ahead(batches: Iterable[Fetched], device: torch.device) -> Iterator[Fetched]:
    """Batches with their tensors on the device; on a GPU, those in pinned memory are copied beside its work.

    The next batch is asked for when an iteration has been launched, which the GPU is then still busy with.
    """
    if device.type != "cuda":
        yield from batches
        return
    beside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    for fetched in batches:
        with torch.cuda.stream(beside):
            sent = {key: _sent(value, device) for key, value in fetched.batch.items()}
        working = torch.cuda.current_stream(device)
        working.wait_stream(beside)
        for value in sent.values():
            if isinstance(value, Tensor):
                value.record_stream(working)  # its memory is the side's, and must not be given away before it is used
        yield replace(fetched, batch=sent)


def _sent(value: object, device: torch.device) -> object:
    return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
