"""What an options file may say outside its networks, steps and datasets: typed, with defaults and reasons."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator

from gradloom.config.binding import bind, convert, make
from gradloom.config.document import Document
from gradloom.config.node import Node
from gradloom.config.schedules import Schedule
from gradloom.errors import Fault, closest

Count = Annotated[int, Ge(0)]
Positive = Annotated[int, Gt(0)]
Rate = Annotated[float, Ge(0), Lt(1)]

_LONGEST = 200  # of the 255 bytes that a folder's name may have, as `_archived_<time>` may follow


def _folder(name: str) -> str:
    if not re.fullmatch(r"\w[\w .+=,@-]*", name):
        raise ValueError("a name is one folder: letters, digits and any of . _ - + = , @")
    if len(name.encode()) > _LONGEST:
        raise ValueError(f"a name has {_LONGEST} bytes at most")
    return name


RunName = Annotated[str, AfterValidator(_folder)]


@dataclass(frozen=True, kw_only=True)
class Train:
    """How long and how training goes."""

    niter: Count  # iterations in all, numbered from 0
    mega_batch_factor: Positive | Literal["auto"] = (
        1  # micro-batches of a batch, over all processes; auto finds how few fit
    )
    mod_batch_factor: Positive | None = None  # micro-batches instead, in iterations that mod_batch_factor_every divides
    mod_batch_factor_every: Positive | None = None
    mod_batch_factor_also_disable_checkpointing: bool = False  # in these, what checkpointing drops is remembered
    sort_key: str | None = None  # a key of one number a sample; batches are sorted by it, the highest first
    auto_collate: bool = False  # cuts the last dimension of x to the highest of x_lengths in each micro-batch
    warmup_iter: Annotated[int, Ge(-1)] = -1  # lr = initial * iteration / warmup_iter until then; -1 is none
    val_freq: Positive | None = None  # iterations between evaluations; None evaluates at the end only
    manual_seed: Count = 0
    ema_enabled: bool = True
    ema_rate: Rate | Schedule = 0.999  # what averages keep of themselves at each update
    default_lr_scheme: str | dict[str, Any] | None = None  # None keeps the learning rates
    gen_lr_steps: list[Count] = field(default_factory=list)  # iterations from which rates are lr_gamma times as high
    lr_gamma: Annotated[float, Gt(0)] = 0.1
    progressive_starts: list[Count] = field(default_factory=lambda: [0])  # of ProgressiveMultiStepLR, one each group
    restarts: list[Count] = field(default_factory=list)  # iterations at which the scheme begins anew
    restart_weights: list[Annotated[float, Gt(0)]] = field(default_factory=list)  # of the rates from then on; none: 1
    clear_state: bool = False  # optimizers forget what they know at restarts
    force_lr: Annotated[float, Ge(0)] | None = None  # of MultiStepLR: the rate, whatever else is said
    T_period: list[Positive] = field(default_factory=list)  # of the cosine: lengths, the first before the first restart
    warmup: Count = 0  # of the cosine: iterations before it begins
    eta_min: Annotated[float, Ge(0)] = 0.0  # of the cosine: its lower bound
    max_hours: Annotated[float, Gt(0)] | None = None  # after which the run saves and ends; --resume goes on
    save_before_timeout: Annotated[float, Ge(0)] | None = None  # minutes before max_hours or a SLURM job's end to stop
    process_timeout: Annotated[float, Gt(0)] = 30.0  # minutes that processes wait for one another before the run fails

    def __post_init__(self) -> None:
        low, high = self.ema_rate.bounds if isinstance(self.ema_rate, Schedule) else (0, 0)
        if low < 0 or high >= 1:
            raise ValueError(f"'ema_rate' goes from {low:g} to {high:g}; it is 0 or more, and less than 1")
        if self.restart_weights and len(self.restart_weights) != len(self.restarts):
            counts = f"{len(self.restart_weights)} for {len(self.restarts)}"
            raise ValueError(f"'restart_weights' needs one weight for each of 'restarts', got {counts}")
        if (self.mod_batch_factor is None) != (self.mod_batch_factor_every is None):
            lone = "mod_batch_factor" if self.mod_batch_factor else "mod_batch_factor_every"
            raise ValueError(f"{lone!r} stands alone; mod_batch_factor and mod_batch_factor_every go together")
        if self.mod_batch_factor_also_disable_checkpointing and not self.mod_batch_factor:
            raise ValueError("'mod_batch_factor_also_disable_checkpointing' needs mod_batch_factor beside it")
        if self.mod_batch_factor and self.mega_batch_factor == "auto":
            raise ValueError("'mod_batch_factor' needs a number as mega_batch_factor, not auto")

    def micro_batches(self, iteration: int, otherwise: int) -> int:
        """Into how many micro-batches a batch is cut in an iteration."""
        return self.mod_batch_factor or otherwise if self.modified(iteration) else otherwise

    def modified(self, iteration: int) -> bool:
        """Whether the iteration has the other number of micro-batches."""
        return self.mod_batch_factor_every is not None and iteration % self.mod_batch_factor_every == 0


@dataclass(frozen=True, kw_only=True)
class Eval:
    """When and how networks are measured; the evaluators and injectors themselves are parts."""

    output_state: str | None = None  # the state key that 'test' and 'process_video' write as images
    at_start: bool = False  # measure before the first iteration too
    pure: bool = False  # measure every step's losses over the validation set too, as val/<step>/<loss>
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
class Best:
    """Which checkpoint is the best one."""

    metric: str  # an evaluator's, as metrics.jsonl calls it
    mode: Literal["min", "max"] = "min"


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """Which checkpoints stay, and how they are written; `logger.save_checkpoint_freq` says when."""

    keep_last: Positive | None = None  # None keeps all
    keep_every: Positive | None = None  # keeps those of multiples of so many iterations, beside the last
    best: Best | None = None  # keeps the best one too, and saves whenever an evaluation is better than all before
    async_: bool = False  # write in a thread, from a copy in host memory, while training goes on
    models: bool = False  # write the ancestor's models/<iteration>_<network>.pth too


@dataclass(frozen=True, kw_only=True)
class NotFinite:
    """What to do about losses and gradients that are no finite numbers; such an update is always skipped."""

    tolerate: Count = 10  # updates of one step, in a row, that may be skipped
    action: Literal["stop", "rollback", "anomaly"] = "stop"  # what follows on more; anomaly looks for the cause first
    rollbacks: Positive = 3  # how often the run may return to a checkpoint
    lr_factor: Annotated[float, Gt(0), Le(1)] = 1.0  # of every learning rate, at each return


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How networks are run. What is left to `auto` is measured once a network has been called."""

    channels_last: bool | Literal["auto"] = "auto"  # the memory layout of networks with convolutions of images
    compile: bool | Literal["auto"] = "auto"  # torch.compile; auto tries it on a GPU, for runs long enough to pay
    cuda_graphs: bool = False  # record whole iterations on a GPU and replay them, where the host decides nothing
    fused: bool | Literal["auto"] = "auto"  # torch's fused kernels for optimizers; auto: on GPUs, and on CPUs if large
    tf32: bool | None = None  # products of float32 in 19 bits on a GPU; None leaves it to torch
    seconds: Annotated[float, Gt(0)] = 20.0  # to measure for; what has begun is finished

    def __str__(self) -> str:
        return f"{self.channels_last} {self.compile} {self.fused} {self.tf32}"


@dataclass(frozen=True, kw_only=True)
class EarlyStopping:
    """When to end a run because of a metric: an evaluator's, or a mean that is logged while training."""

    metric: str
    mode: Literal["min", "max"] = "min"
    patience: Positive | None = None  # reports in a row without a better value
    min_delta: Annotated[float, Ge(0)] = 0.0  # by how much a value has to be better
    divergence_factor: Annotated[float, Gt(1)] | None = None  # so many times worse than the best: the run has diverged
    warmup: Count = 0  # iterations whose reports do not count

    def __post_init__(self) -> None:
        if self.patience is None and self.divergence_factor is None:
            raise ValueError("give 'patience', 'divergence_factor' or both")


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Where runs are kept and what they start from."""

    experiments_root: Path | None = None
    results_root: Path | None = None  # where 'test' and 'process_video' write
    strict_load: bool = True  # weights that start a network have to match it
    resume_state: Path | None = None  # a checkpoint to go on from, as --resume


@dataclass(frozen=True, kw_only=True)
class Video:
    """What 'process_video' makes of the frames of `datasets.video`."""

    minivid_crf: Annotated[int, Ge(0), Le(51)] = 12  # x265's quality: 0 loses nothing, 51 is the worst
    frames_per_mini_vid: Positive | None = None  # frames of a file, after which they are removed; None is one of all
    minivid_start_no: Count = 0  # number of the first file
    mini_vid_output_folder: Path | None = None  # where files go; None is beside the frames
    recurrent_mode: bool = False  # each frame comes with the output for the one before, under the key `recurrent`
    recurrent_hr_generator: str | None = None  # the network that stands in for `generator` at the first frame
    scale: Positive = 1  # of the zeros that the first frame comes with: how much larger than `lq` they are


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """Weights that a network starts from."""

    file: Path
    prefix: str = ""  # keep the names that start so, without it
    part: str = ""  # of the network, which starts from them instead of the whole
    node: Node


@dataclass(frozen=True, kw_only=True)
class Sections:
    """Everything of an options file that needs no torch to be understood."""

    name: RunName
    train: Train
    eval: Eval = Eval()
    logger: Logger = Logger()
    checkpoints: Checkpoints = Checkpoints()
    nan: NotFinite = NotFinite()
    early_stopping: EarlyStopping | None = None
    path: Paths = Paths()
    video: Video = Video()
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    speed: Literal["auto", "safe"] | Speed = "auto"  # safe measures nothing and changes nothing
    gpu_ids: list[Count] | None = None
    start_step: Annotated[int, Ge(-1)] = -1  # the iteration before the first
    use_tb_logger: bool = True
    checkpointing_enabled: bool = False  # networks compute their blocks anew in backward passes, to save memory
    anomaly_detection: bool = False  # torch says which operation a gradient that is no number came from; slow
    automatically_scale_grads_for_fanin: bool = False  # gradients of linear and convolution weights, by their inputs
    automatically_scale_base_layer_size: Positive = 1024  # inputs at which that changes nothing; sqrt(this / inputs)
    image_normalization_range: tuple[float, float] = (0.0, 1.0)  # what of eval.output_state becomes black and white
    plugins: list[str] = field(default_factory=list)
    pretrained: dict[str, Pretrained] = field(default_factory=dict)
    trains: bool = True  # whether there is a section `train`; one that says what to write may be without
    faulty: frozenset[str] = frozenset()  # the sections with faults, which hold defaults instead

    def logs_after(self, iteration: int) -> bool:
        """Whether numbers are logged after an iteration, numbered from 0."""
        return (iteration + 1) % self.logger.print_freq == 0 or iteration + 1 == self.train.niter

    @property
    def speeds(self) -> Speed:
        """The options of speed, in full."""
        if isinstance(self.speed, Speed):
            return self.speed
        return Speed() if self.speed == "auto" else Speed(channels_last=False, compile=False, fused=False)


_TREES = ("networks", "steps", "datasets", "hooks")  # compiled into the plan, with the parts under `eval`
_PARTS = ("injectors", "evaluators")
OPTIONAL = (
    "eval",
    "logger",
    "checkpoints",
    "nan",
    "early_stopping",
    "path",
    "video",
    "gpu_ids",
    "plugins",
    "datasets",
    "hooks",
)  # as good as absent where they are empty


def sections(document: Document, faults: list[Fault]) -> Sections | None:
    """Bind every section that needs no torch, with defaults for what has faults; None where nothing could be read."""
    root, found = document.root, list[Fault]()
    if root is None:
        return None
    fields = {key: node for key, node in root.fields.items() if node.value is not None or key not in OPTIONAL}
    measured = fields["eval"].fields if "eval" in fields else {}
    trains = "train" in fields or "output_state" not in measured
    optional = {"datasets", "hooks"} if trains or "injectors" not in measured else {"datasets", "hooks", "steps"}
    _check_trees(root, fields, optional, found)
    special = {*_TREES, "eval", "path"}
    hidden = {"pretrained", "faulty", "trains", *(() if trains else ("train",))}
    bound = bind(Sections, replace(root, value=fields), found, special, hidden)
    if "eval" in fields:
        bound["eval"] = make(Eval, fields["eval"], found, _PARTS) or Eval()
        parts = [fields["eval"].fields[kind] for kind in _PARTS if kind in fields["eval"].fields]
        odd = [node for node in parts if not isinstance(node.value, dict | None)]
        found += [node.fault(f"expected parts by name, got {node.show()}") for node in odd]
    if "path" in fields:
        rest, bound["pretrained"] = _pretrained(fields["path"], found)
        bound["path"] = make(Paths, rest, found, _pretrain_options(fields.get("networks"))) or Paths()
    faults += found
    faulty = {fault.path.partition(".")[0].partition("[")[0] for fault in found}
    return Sections(
        **{"name": "unnamed", "train": Train(niter=0), **bound, "trains": trains, "faulty": frozenset(faulty)}
    )


def _check_trees(root: Node, fields: Mapping[str, Node], optional: set[str], faults: list[Fault]) -> None:
    """See that the sections that hold things by name do, and are there."""
    unknown = fields.keys() - Sections.__dataclass_fields__.keys() - {*_TREES}
    for tree in _TREES:
        if tree in fields and not isinstance(fields[tree].value, dict):
            faults.append(fields[tree].fault(f"expected {tree} by name, got {fields[tree].show()}"))
        elif tree not in fields and tree not in optional and closest(tree, unknown) is None:
            faults.append(root.fault(f"section {tree!r} is missing; it takes {tree} by name"))


def _pretrain_options(networks: Node | None) -> list[str]:
    """The options of `path` that depend on the networks."""
    names = networks.fields if networks else ()
    return [f"pretrain_{what}_{name}" for name in names for what in ("model", "base_path")]


def _pretrained(path: Node, faults: list[Fault]) -> tuple[Node, dict[str, Pretrained]]:
    """Take `pretrain_model_<network>` and `pretrain_base_path_<network>` out of the `path` section."""
    rest, files, prefixes = dict(path.fields), {}, {}
    for key in path.fields:
        if key.startswith("pretrain_model_"):
            files[key.removeprefix("pretrain_model_")] = rest.pop(key)
        elif key.startswith("pretrain_base_path_"):
            prefixes[key.removeprefix("pretrain_base_path_")] = rest.pop(key)
    found = {}
    for network, node in files.items():
        prefix = prefixes.pop(network, None)
        file = None if node.value is None else convert(node, Path, faults)
        prefix_text = convert(prefix, str, faults) if prefix else ""
        if file is not None and prefix_text is not None:
            found[network] = Pretrained(file=file, prefix=prefix_text, node=node)
    faults += [node.fault(f"there is no 'pretrain_model_{network}' beside it") for network, node in prefixes.items()]
    return replace(path, value=rest) if isinstance(path.value, dict) else path, found
