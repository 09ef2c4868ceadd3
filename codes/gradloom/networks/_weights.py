"""Weights that a part of a network starts from."""

from pathlib import Path

import torch
from torch import nn


def fill(network: nn.Module, file: Path, option: str) -> None:
    """Load a file of a network's `state_dict`.

    Raises:
        ValueError: when there is no such file, or it holds another network's weights; it begins with the option.
    """
    if not file.is_file():
        raise ValueError(f"{option}: there is no file {file}")
    try:
        network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:  # pickle's own errors, and those of what it holds
        said = " ".join(str(error).split())
        raise ValueError(f"{option}: {file} does not hold weights of this network: {said}") from error
