"""Read and write the weights of single networks, in the formats that the field uses."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import save_file
from torch import Tensor, nn

from gradloom.config.secrets import masked
from gradloom.config.sections import Pretrained
from gradloom.engine.saving.reading import PARALLEL, read_weights
from gradloom.engine.sharding import here, is_spread, part_like
from gradloom.errors import RunError, suggest
from gradloom.parts import Adopts

DESCRIPTION = "network.json"  # in a folder of parts, what a file's metadata says


def start_from(network: nn.Module, pretrained: Pretrained, strict: bool, device: Literal["cpu", "meta"] = "cpu") -> str:
    """Load the weights that a network starts from, on "meta" only their shapes; return what to say about it.

    Raises:
        RunError: when the file cannot be read, or does not match and `strict` is set.
    """
    file = _resolve(pretrained)
    try:
        if pretrained.part:
            network = _part(network, pretrained.part)
        tensors = _chosen(read_weights(file, device), pretrained.prefix)
        wrong = fill(network, tensors, strict)
        _check_finite({name: tensors[name] for name, _ in network.named_parameters() if name in tensors})
    except RunError as error:
        raise RunError(pretrained.node.fault(str(error))) from error
    which = f"weights of {pretrained.part}" if pretrained.part else "weights"
    return f"{which} from {file}" + (f", but for {_some(wrong)}" if wrong else "")


def _check_finite(parameters: Mapping[str, Tensor]) -> None:
    """See that parameters are numbers; what is no parameter, such as a mask, may be infinite."""
    odd = [name for name, one in parameters.items() if not one.is_meta and not one.float().isfinite().all()]
    if odd:
        raise RunError(f"{_some(odd)}: some of these weights are no finite numbers; start from others")


def _part(network: nn.Module, name: str) -> nn.Module:
    parts: dict[str, nn.Module] = dict(network.named_modules())
    if name not in parts:
        raise RunError(f"the network has no part {name!r}; {suggest(name, [part for part in parts if part])}")
    return parts[name]


def start_average_from(
    average: nn.Module, pretrained: Pretrained, strict: bool, device: Literal["cpu", "meta"] = "cpu"
) -> str:
    """Load the average that stands beside a network's weights, in `x_ema.pth` beside `x.pth`; return what to say.

    Where there is none, the average stays as it is, and there is nothing to say.

    Raises:
        RunError: when the file cannot be read, or does not match and `strict` is set.
    """
    file = _resolve(pretrained)
    beside = file.with_name(f"{file.stem}_ema{file.suffix}")
    if not beside.is_file():
        return ""
    try:
        wrong = fill(average, _chosen(read_weights(beside, device), pretrained.prefix), strict)
    except RunError as error:
        raise RunError(pretrained.node.fault(f"{beside.name} beside it: {error}")) from error
    return f"average from {beside}" + (f", but for {_some(wrong)}" if wrong else "")


def _chosen(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin with a prefix, without it and the dot that may follow."""
    if not prefix:
        return tensors
    wrapped = prefix.removeprefix(PARALLEL)  # which reading removes
    chosen = {
        name.removeprefix(start).removeprefix("."): value
        for start in (prefix, wrapped)
        for name, value in tensors.items()
        if start and name.startswith(start)
    }
    if not chosen:
        known = sorted({name.partition(".")[0] for name in tensors})
        raise RunError(f"no name in it begins with {prefix!r}; {suggest(prefix, known)}")
    return chosen


def _resolve(pretrained: Pretrained) -> Path:
    """A path is taken from where the run was started, or else from the folder of the options file."""
    beside = Path(pretrained.node.mark.file).parent / pretrained.file
    return pretrained.file if pretrained.file.exists() or not beside.exists() else beside


def fill(network: nn.Module, tensors: Mapping[str, Tensor], strict: bool = True) -> list[str]:
    """Load tensors into a network; return every name and shape that does not match, which `strict` does not allow."""
    own = network.state_dict()
    tensors = network.adopt(tensors) if isinstance(network, Adopts) else tensors
    fitting = {key: tensors[key] for key in own if key in tensors and _fits(tensors[key], own[key])}
    wrong = [
        *(f"{key} is missing" for key in own if key not in tensors),
        *(f"{key} is unknown" for key in tensors if key not in own),
        *(
            f"{key} is {_told(tensors[key], own[key])}, not {_told(own[key], tensors[key])}"
            for key in own
            if key in tensors and key not in fitting
        ),
    ]
    if strict and wrong:
        raise RunError(f"the weights do not match the network: {_some(wrong)}")
    if own and not fitting:
        raise RunError("none of the weights matches the network by name and shape")
    network.load_state_dict({key: part_like(own[key], value) for key, value in fitting.items()}, strict=False)
    return wrong


def _fits(given: Tensor, own: Tensor) -> bool:
    """Whether a tensor can be that of a network: of any width, but fractions where the network has fractions."""
    alike = given.is_complex() == own.is_complex() and (given.is_floating_point() or not own.is_floating_point())
    return given.shape == own.shape and alike and (own.is_meta or not given.is_meta)


def _told(tensor: Tensor, other: Tensor) -> str:
    """What distinguishes a tensor from another."""
    if tensor.shape != other.shape:
        return str(tuple(tensor.shape))
    if tensor.is_floating_point() != other.is_floating_point() or tensor.is_complex():
        kind = "complex numbers" if tensor.is_complex() else "fractions" if tensor.is_floating_point() else "integers"
        return f"of {kind}"
    return f"{'without' if tensor.is_meta else 'with'} values"


def _some(sentences: list[str]) -> str:
    more = f"; and {len(sentences) - 5} more" if len(sentences) > 5 else ""
    return "; ".join(sentences[:5]) + more


@dataclass(frozen=True)
class Weights:
    """A network's tensors, with what it takes to build the network."""

    tensors: Mapping[str, Tensor]
    which_model: str
    options: Mapping[str, Any]

    @property
    def spread(self) -> bool:
        """Whether each process holds a part of them."""
        return any(map(is_spread, self.tensors.values()))

    def described(self) -> dict[str, str]:
        """What it takes to build the network: the name of its class, and its options as JSON.

        Raises:
            TypeError: when the options are not such as an options file holds.
        """
        options = json.dumps(masked(self.options), default=_as_written)
        return {"which_model": self.which_model, "options": options}


def write_weights(weights: Weights, file: Path) -> None:
    """Write a network's tensors; what it takes to build the network stands in the metadata, as JSON.

    Raises:
        TypeError: when the options are not such as an options file holds.
    """
    tensors = {key: value.detach().cpu().contiguous() for key, value in weights.tensors.items()}
    save_file(apart(tensors), file, weights.described())


def apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors that share memory with another, which safetensors does not take."""
    seen: set[int] = set()
    copied = {}
    for key, value in tensors.items():
        memory = here(value).untyped_storage().data_ptr()
        copied[key] = value.clone() if memory in seen else value
        seen.add(memory)
    return copied


def _as_written(value: Any) -> str:
    """A path as options write it; nothing else would be read back as what it was."""
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} is nothing that options hold; expected words, numbers, lists and mappings")
