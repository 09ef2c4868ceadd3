"""What a file may say of each network, dataset and step, beside what their classes and parts take."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """What a file may say of a network, beside the network's own options."""

    type: Literal["generator", "discriminator"] | None = None  # its role, which the listing names
    trainable: bool = True
    after: Annotated[int, Ge(0)] = 0
    ema: bool = True
    checkpointing_enabled: bool | None = None  # compute its blocks anew in backward passes; none is as at the top
    sync_batchnorm: bool = False  # batch norm's statistics are those of all processes' samples; else of each one's own
    strategy: Literal["replicate", "fsdp"] = "replicate"  # fsdp: each process holds a part of it, not the whole
    pretrained_parts: dict[str, Path] = field(default_factory=dict)  # files of weights that parts of it start from
    kwargs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """What a file may say of a dataset, beside the dataset's own options."""

    name: str = ""
    batch_size: Annotated[int, Gt(0)] | None = None  # samples of a batch, over all processes; of `val` 1 unless given
    batch_size_per_process: Annotated[int, Gt(0)] | None = None  # of `train`: the other word for it
    drop_last: bool = True  # of `train`: leave out the incomplete batch at the end of an epoch
    n_workers: Annotated[int, Ge(0)] = 0
    pin_memory: bool = True
    max_bad: Annotated[int, Ge(0)] = 0  # samples that may turn out unusable; each is said, and another takes its place


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """What a file may say of a step."""

    training: str | list[str]
    optimizer: Any = "adamw"  # judged with its `optimizer_params`
    optimizer_params: dict[str, Any] | None = None
    optimizer_of: str | None = None
    injectors: dict[str, Any] | None = None
    losses: dict[str, Any] | None = None
    after: Annotated[int, Ge(0)] = 0
    before: Annotated[int, Ge(0)] | None = None
    every: Annotated[int, Gt(0)] = 1
    requires: str | list[str] | None = None  # state keys; where one is not written, the step does not take part
    step_outputs: str | list[str] | None = None  # the keys that it writes for later steps; none is all
    clip_grad_norm: Annotated[float, Ge(0)] | None = None  # of all gradients together, at most
    clip_grad_eps: Annotated[float, Ge(0)] | None = None  # of each parameter group's gradients, at most
