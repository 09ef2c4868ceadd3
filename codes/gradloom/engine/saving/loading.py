"""Build a network again from a weight file that a run wrote, without the run's options."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from gradloom.config.binding import bind
from gradloom.config.node import Node, grown
from gradloom.engine.saving.reading import read_weights
from gradloom.engine.saving.weights import DESCRIPTION, fill
from gradloom.engine.taking_part import TakingPart
from gradloom.errors import Fault, Mark, RunError
from gradloom.parts import networks


def load_network(path: str | Path) -> nn.Module:
    """Build the network of a weight file such as `checkpoints/1000/generator_ema.safetensors`, in eval mode.

    Of a network that was spread over processes, `checkpoints/1000/sharded/generator_ema` is a folder. Both say which
    class makes it, and with which options. It stands on the CPU, and random numbers are left as they were. A network of
    a plugin needs the plugin to be imported first.

    Raises:
        RunError: when the file cannot be read, was not written by a run, or does not fit the network's class.
    """
    file = Path(path)
    network = _build(_description(file))
    try:
        fill(network, read_weights(file))
    except RunError as error:
        raise RunError(f"{file}: {error}") from error
    TakingPart({file.stem: network}).loaded()
    return network.eval()


def _description(file: Path) -> Node:
    """What the file says of its network, as an options file would."""
    metadata = _metadata(file)
    try:
        which_model, options = metadata["which_model"], json.loads(metadata["options"])
    except (KeyError, TypeError, ValueError) as error:
        why = "its metadata do not say 'which_model' and 'options'"
        raise RunError(f"{file} was not written by a run of Gradloom: {why}") from error
    if not isinstance(options, dict):
        raise RunError(f"{file} was not written by a run of Gradloom: its 'options' are no mapping")
    return grown({"which_model": which_model, **options}, Mark(str(file), 0, 0))


def _metadata(file: Path) -> Mapping[str, str]:
    """What stands beside the tensors, in a file or in a folder of parts."""
    if (file / "manifest.json").is_file():
        raise RunError(f"{file} is a whole checkpoint; name a file in it, such as {file / 'generator.safetensors'}")
    if file.is_dir():
        try:
            told: Mapping[str, str] = json.loads((file / DESCRIPTION).read_text())
        except (OSError, ValueError) as error:
            raise RunError(f"{file} was not written by a run of Gradloom: {error}") from error
        return told
    if not file.is_file():
        raise RunError(f"there is no file {file}")
    try:
        with safe_open(file, "pt") as opened:
            return opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise RunError(f"{file} is not a safetensors file: {error}") from error


def _build(described: Node) -> nn.Module:
    faults: list[Fault] = []
    make = networks.choose(described, "which_model", faults)
    if make is None:
        hint = "import the module that registers it first, such as the run's plugins"
        raise RunError(f"{faults[0]}; if it is not Gradloom's own, {hint}")
    arguments: dict[str, Any] = bind(make, described, faults, {"which_model"})
    if faults:
        raise RunError("\n".join(map(str, faults)))
    try:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            return make(**arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RunError(described.fault(f"{described.fields['which_model'].value} cannot be built: {error}")) from error
