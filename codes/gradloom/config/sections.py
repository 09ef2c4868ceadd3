"""What an options file may say outside its networks, steps and datasets: typed, with defaults and reasons."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt
from pydantic import AfterValidator

from gradloom.config.binding import bind, convert
from gradloom.config.document import Document
from gradloom.config.node import Node
from gradloom.errors import Fault

Count = Annotated[int, Ge(0)]
Positive = Annotated[int, Gt(0)]
Rate = Annotated[float, Ge(0), Lt(1)]


def _folder(name: str) -> str:
    if not re.fullmatch(r"\w[\w .+=,@-]*", name):
        raise ValueError("a name is one folder: letters, digits and any of . _ - + = , @")
    return name


RunName = Annotated[str, AfterValidator(_folder)]


@dataclass(frozen=True, kw_only=True)
class Train:
    """How long and how training goes."""

    niter: Count  # iterations in all, numbered from 0
    mega_batch_factor: Positive = 1  # micro-batches whose gradients one update averages
    warmup_iter: Annotated[int, Ge(-1)] = -1  # lr = initial * iteration / warmup_iter until then; -1 is none
    val_freq: Positive | None = None  # iterations between evaluations; None evaluates at the end only
    manual_seed: Count = 0
    ema_enabled: bool = True
    ema_rate: Rate = 0.999
    default_lr_scheme: str | dict[str, Any] | None = None  # None keeps the learning rates
    gen_lr_steps: list[Count] = field(default_factory=list)
    lr_gamma: Annotated[float, Gt(0)] = 0.1
    restarts: list[Count] = field(default_factory=list)
    restart_weights: list[Annotated[float, Gt(0)]] = field(default_factory=list)
    clear_state: bool = False
    force_lr: Annotated[float, Ge(0)] | None = None
    T_period: list[Positive] = field(default_factory=list)
    warmup: Count = 0
    eta_min: Annotated[float, Ge(0)] = 0.0

    def __post_init__(self) -> None:
        if self.restart_weights and len(self.restart_weights) != len(self.restarts):
            raise ValueError(
                f"'restart_weights' needs one weight for each of 'restarts', got {len(self.restart_weights)} for {len(self.restarts)}"
            )


@dataclass(frozen=True, kw_only=True)
class Eval:
    """When and how networks are measured; the evaluators and injectors themselves are parts."""

    at_start: bool = False  # measure before the first iteration too
    seed: Count = 0  # of the noise drawn while measuring, the same at each evaluation


@dataclass(frozen=True, kw_only=True)
class Logger:
    """What is told and kept, and how often, in iterations."""

    print_freq: Positive = 100
    save_checkpoint_freq: Positive | None = None  # None saves at the end only
    visuals: list[str] = field(default_factory=list)  # state keys to save as images
    visual_debug_rate: Positive = 1000
    visual_count: Positive = 64  # samples in a grid, at most
    reverse_n1_to_1: bool = False  # visuals are in [-1, 1]
    reverse_imagenet_norm: bool = False  # visuals are normalised by ImageNet's mean and deviation


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Where runs are kept and what they start from."""

    experiments_root: Path | None = None
    strict_load: bool = True  # weights that start a network have to match it
    resume_state: Path | None = None  # a checkpoint to go on from, as --resume


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """Weights that a network starts from."""

    file: Path
    prefix: str = ""  # keep the names that start so, without it
    node: Node


@dataclass(frozen=True, kw_only=True)
class Sections:
    """Everything of an options file that needs no torch to be understood."""

    name: RunName
    train: Train
    eval: Eval = Eval()
    logger: Logger = Logger()
    path: Paths = Paths()
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    gpu_ids: list[Count] | None = None
    start_step: Annotated[int, Ge(-1)] = -1  # the iteration before the first
    use_tb_logger: bool = True
    anomaly_detection: bool = False
    plugins: list[str] = field(default_factory=list)
    pretrained: dict[str, Pretrained] = field(default_factory=dict)


_TREES = ("networks", "steps", "datasets")  # compiled into the plan, with the parts under `eval`


def sections(document: Document, faults: list[Fault]) -> Sections | None:
    """Bind every section that needs no torch; None when there is any fault."""
    root, found = document.root, list[Fault]()
    if root is None:
        return None
    path, pretrained = _pretrained(root.get("path"), found)
    fields = dict(root.fields)
    if path:
        fields["path"] = path
    if evaluation := root.get("eval"):
        rest = {key: node for key, node in evaluation.fields.items() if key not in ("injectors", "evaluators")}
        fields["eval"] = Node(rest if isinstance(evaluation.value, dict) else evaluation.value, evaluation.mark, "eval")
    fields = {key: node for key, node in fields.items() if node.value is not None or key not in _OPTIONAL}
    for tree in ("networks", "steps"):
        if tree not in root.fields:
            found.append(root.fault(f"section {tree!r} is missing"))
        elif not isinstance(root.fields[tree].value, dict):
            found.append(root.fields[tree].fault(f"expected {tree} by name, got {root.fields[tree].show()}"))
    arguments = bind(Sections, Node(fields, root.mark, ""), found, skip={*_TREES, "pretrained"})
    faults += found
    return None if found else Sections(**arguments, pretrained=pretrained)


_OPTIONAL = ("eval", "logger", "path", "gpu_ids", "plugins")


def _pretrained(path: Node | None, faults: list[Fault]) -> tuple[Node | None, dict[str, Pretrained]]:
    """Take `pretrain_model_<network>` and `pretrain_base_path_<network>` out of the `path` section."""
    if path is None or not isinstance(path.value, dict):
        return path, {}
    rest, files, prefixes = {}, {}, {}
    for key, node in path.fields.items():
        if key.startswith("pretrain_model_"):
            files[key.removeprefix("pretrain_model_")] = node
        elif key.startswith("pretrain_base_path_"):
            prefixes[key.removeprefix("pretrain_base_path_")] = node
        else:
            rest[key] = node
    found = {}
    for network, node in files.items():
        if node.value is None:
            continue
        prefix = prefixes.pop(network, None)
        found[network] = Pretrained(
            file=convert(node, Path, faults),
            prefix=convert(prefix, str, faults) if prefix else "",
            node=node,
        )
    faults += [node.fault(f"there is no 'pretrain_model_{network}' beside it") for network, node in prefixes.items()]
    return Node(rest, path.mark, path.path), found
