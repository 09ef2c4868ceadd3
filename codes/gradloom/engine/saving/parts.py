"""Tensors of which each process holds a part: all write theirs, and any number of processes reads them.

torch.distributed.checkpoint writes and reads them, in safetensors files with the place of each part in their
metadata. Its usual format holds pickles, which may run code when they are read.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from gradloom.engine.saving.weights import apart
from gradloom.engine.sharding import is_spread
from gradloom.errors import RunError


def write_parts(tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Write what this process holds of the tensors into a folder that is there; all processes have to take part.

    Raises:
        RunError: in all processes, when one of them could not write.
    """
    try:
        save(apart(tensors), storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
    except CheckpointException as error:
        raise RunError(f"{folder} cannot be written: {_first(error)}") from error


def read_parts(folder: Path, like: Mapping[str, Tensor], device: str = "cpu") -> dict[str, Tensor]:
    """Read every tensor of a folder: whole, or as the one of this name and shape in `like` is spread.

    On "meta" they have shapes and no values.

    Raises:
        RunError: when they cannot be read.
    """
    return read(folder, lambda key, shape, dtype: _place(like.get(key), shape, dtype, device))


def read(folder: Path, place: Callable[[str, torch.Size, torch.dtype], Tensor]) -> dict[str, Tensor]:
    """Read every tensor of a folder into what `place` makes for its name, shape and dtype.

    Raises:
        RunError: when they cannot be read.
    """
    try:
        told = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
        tensors = {
            key: place(key, one.size, one.properties.dtype)
            for key, one in told.items()
            if isinstance(one, TensorStorageMetadata)
        }
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # each process reads for itself
            filled = {key: value for key, value in tensors.items() if not value.is_meta}
            load(filled, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)
    except (CheckpointException, SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        why = _first(error) if isinstance(error, CheckpointException) else error
        raise RunError(f"{folder} cannot be read: {why}") from error
    return tensors


def _place(own: Tensor | None, shape: torch.Size, dtype: torch.dtype, device: str) -> Tensor:
    if own is not None and is_spread(own) and own.shape == shape:
        return torch.empty_like(own, dtype=dtype)
    return torch.empty(shape, dtype=dtype, device=device)


def _first(error: CheckpointException) -> BaseException:
    """What went wrong in the first of the processes in which something did."""
    return next(why for why, _ in error.failures.values())
