"""Spellings of the ancestor that it dropped, ignored or got wrong: one table, each with a notice.

A rule is a dotted pattern (`*` is any one name) and what to do with the nodes found there. A rule that
forgets says why nothing is lost; a rule that refuses says what there is instead.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from gradloom.config.node import Node, join
from gradloom.errors import Fault

Fields = dict[str, Node]


@dataclass(frozen=True)
class Rule:
    """What to do with an option: `mend` changes the fields around it, and returns what to say."""

    pattern: str
    mend: Callable[[Fields, str], str]
    only: Callable[[Any], bool] = lambda value: True
    refuses: bool = False


def forget(why: str) -> Callable[[Fields, str], str]:
    """Drop the option; silently when there is no why, since it says what is so anyway."""

    def mend(fields: Fields, key: str) -> str:
        del fields[key]
        return why and f"dropped: {why}"

    return mend


def rename(to: str) -> Callable[[Fields, str], str]:
    """Call the option by its present name, unless that is there too."""

    def mend(fields: Fields, key: str) -> str:
        node = fields.pop(key)
        if to in fields:
            return f"dropped: {to!r} is there too"
        fields[to] = node.at(join(node.path.rpartition(".")[0], to))
        return f"read as {to!r}"

    return mend


def move_under(section: str) -> Callable[[Fields, str], str]:
    """Put the option into a mapping beside it."""

    def mend(fields: Fields, key: str) -> str:
        node = fields.pop(key)
        parent = fields.get(section) or Node({}, node.mark, join(node.path.rpartition(".")[0], section))
        if key in parent.fields:
            return f"dropped: {section!r} has it too"
        fields[section] = replace(parent, value={**parent.fields, key: node.at(join(parent.path, key))})
        return f"read as {section}.{key}"

    return mend


def into_each(section: str, inner: str, option: str) -> Callable[[Fields, str], str]:
    """Give the option, by another name, to each entry of a section that has such a mapping and does not say it."""

    def mend(fields: Fields, key: str) -> str:
        node = fields.pop(key)
        entries = dict(fields[section].fields) if section in fields else {}
        for name, entry in entries.items():
            options = entry.get(inner)
            if options and options.fields and option not in options.fields:
                given = replace(options, value={**options.fields, option: node.at(join(options.path, option))})
                entries[name] = replace(entry, value={**entry.fields, inner: given})
        if entries:
            fields[section] = replace(fields[section], value=entries)
        return f"read as {section}.*.{inner}.{option}"

    return mend


_AROUND = {"type", "weight", "after", "before", "every", "train", "eval", "grad", "no_grad", "no_accum"}


def nest(**own: set[str]) -> Callable[[Fields, str], str]:
    """Put the options of a part within a part under `part`, for the types that have one; their own ones stay."""

    def mend(fields: Fields, key: str) -> str:
        outer = fields["type"].value if "type" in fields else None
        if not isinstance(outer, str) or outer not in own:
            return ""
        node = fields[key]
        moved = {option: fields.pop(option) for option in [*fields] if option not in _AROUND | own[outer]}
        moved = {"type": moved.pop(key), **moved}
        path = join(node.path.rpartition(".")[0], "part")
        fields["part"] = Node(moved, node.mark, path).at(path)
        return f"read as part: {{type: {node.value}, {', '.join([*moved][1:])}}}"

    return mend


def write(value: Any) -> Callable[[Fields, str], str]:
    """Give the option another value."""

    def mend(fields: Fields, key: str) -> str:
        fields[key] = replace(fields[key], value=value)
        return f"read as {value!r}"

    return mend


def refuse(why: str) -> Callable[[Fields, str], str]:
    """Drop the option and refuse the file."""

    def mend(fields: Fields, key: str) -> str:
        del fields[key]
        return why

    return mend


def _is(*values: Any) -> Callable[[Any], bool]:
    return lambda value: any(value is known or (value == known and type(value) is type(known)) for known in values)


_OFF = _is(False, None)


def _asks_for_directions(value: Any) -> bool:
    """Whether a `batch_size_optimizer` is the one that waits for gradients to agree."""
    kind = value["type"].value if isinstance(value, dict) and "type" in value else value
    return kind in ("gradient_direction", "GradientDirectionOptimizer")


RULES = (
    Rule("model", forget("every run is trained by the one trainer")),
    Rule("distortion", forget("nothing reads it")),
    Rule("suffix", forget("nothing reads it")),
    Rule("scale", forget("each dataset and network has its own")),
    Rule("amp_opt_level", forget("apex is gone; see 'precision'")),
    Rule("cuda_benchmarking_enabled", forget("cuDNN's benchmark is on")),
    Rule("dist_backend", forget("gradients are averaged without a wrapper")),
    Rule("ddp_find_unused_parameters", forget("gradients are averaged without a wrapper")),
    Rule("ddp_static_graph", forget("gradients are averaged without a wrapper")),
    Rule("automatically_recover_nan_by_reverting_n_saves", forget("the ancestor never did it")),
    Rule("fp16", write("fp16"), only=_is(True)),
    Rule("fp16", forget(""), only=_OFF),
    Rule("fp16", rename("precision"), only=_is("fp16")),
    Rule("grad_scaler_enabled", forget("fp16 has a scaler, fp32 and bf16 need none")),
    Rule("wandb", forget(""), only=_OFF),
    Rule("wandb", refuse("not supported yet; remove it: metrics.jsonl and TensorBoard are written"), refuses=True),
    Rule("checkpointing_enabled", forget(""), only=_OFF),
    Rule("keep_optimizer_states_on_cpu", forget(""), only=_OFF),
    Rule("force_start_step", forget("a resumed run goes on where it was"), only=_is(-1, None)),
    Rule(
        "force_start_step",
        refuse("a resumed run goes on where it was; write start_step, and path.pretrain_model_<network> for weights"),
        refuses=True,
    ),
    Rule("training_data_encountered", forget("samples are counted from the iterations")),
    Rule("image_normalization_range", forget("evaluators and 'logger' each say what range their images have")),
    Rule("experiments", forget(""), only=_is(None, [])),
    Rule("experiments", refuse("the ancestor's did nothing, and failed when they logged; remove it"), refuses=True),
    Rule("wandb_project_name", forget("see 'wandb'")),
    Rule("wandb_run_name", forget("see 'wandb'")),
    Rule("wandb_progress_use_raw_steps", forget("everything is logged by iterations")),
    Rule("colab_mode", forget(""), only=_OFF),
    Rule(
        "colab_mode", refuse("nothing is copied to other machines; remove it, and copy the run's folder"), refuses=True
    ),
    Rule("path.optimizer_reset", forget(""), only=_OFF),
    Rule(
        "path.optimizer_reset",
        refuse("not supported; start anew from the weights, with path.pretrain_model_<network>"),
        refuses=True,
    ),
    Rule("path.alt_path", refuse("not supported; a run has one folder, which may be copied"), refuses=True),
    Rule("networks.*.which_model_G", rename("which_model")),
    Rule("networks.*.which_model_D", rename("which_model")),
    Rule("networks.*.kwargs.blocks_per_checkpoint", forget("it was never read")),
    Rule("networks.*.args.blocks_per_checkpoint", forget("it was never read")),
    Rule("networks.*.blocks_per_checkpoint", forget("it was never read")),
    Rule("networks.*.do_checkpointing", rename("checkpointing_enabled")),
    Rule("networks.*.wandb_debug", forget("it watched a network in Weights & Biases")),
    Rule("networks.*.args", rename("kwargs")),
    *(Rule(f"steps.*.{key}", move_under("optimizer_params")) for key in ("lr", "weight_decay", "beta1", "beta2")),
    Rule("keep_optimizer_states_on_cpu", into_each("steps", "optimizer_params", "offload"), only=_is(True)),
    Rule("steps.*.generator", forget("it was never read")),
    Rule("steps.*.generator_outputs", forget("it was never read")),
    Rule("steps.*.loss_log_buffer", forget("losses are means over each logging interval")),
    Rule("steps.*.check_grads_for_nan", forget(""), only=_OFF),
    Rule(
        "steps.*.check_grads_for_nan",
        forget("an update with gradients that are not finite is always skipped; see 'nan'"),
    ),
    Rule("steps.*.injectors.*.subtype", nest(for_each={"aslist"})),
    Rule("steps.*.losses.*.subtype", nest(recurrent={"recurrent_weights"}, for_element={"index"})),
    Rule("steps.*.injectors.*.fp16", forget("the run's precision holds for all"), only=_is(True)),
    Rule("steps.*.injectors.*.use_ema_model", rename("use_ema")),
    Rule("steps.*.losses.*.type", write("cross_entropy"), only=_is("crossentropy")),
    Rule("train.val_freq_megasamples", refuse("not supported; write val_freq, in iterations"), refuses=True),
    Rule("train.warmup_steps", rename("warmup_iter")),
    Rule("train.ema_on_cpu", forget(""), only=_OFF),
    Rule("train.ema_on_cpu", forget("averages are where their networks are, and follow each update")),
    Rule("train.auto_collate", forget(""), only=_is(None)),
    Rule("train.batch_size_optimizer", forget(""), only=_OFF),
    Rule(
        "train.batch_size_optimizer",
        refuse("gradient_direction never worked in the ancestor; remove it, and write mega_batch_factor"),
        only=_asks_for_directions,
        refuses=True,
    ),
    Rule("train.batch_size_optimizer", forget("each step updates after every batch, as it did")),
    Rule("eval.output_state", forget("evaluators and visuals name what they read")),
    Rule("eval.compute_psnr", forget("it was never read; see the evaluator 'psnr'")),
    Rule("eval.compute_fea", forget("it was never read")),
    Rule("eval.pure", forget(""), only=_OFF),
    Rule("logger.recurrent_visual_indices", forget(""), only=_OFF),
    Rule("logger.is_mel_spectrogram", forget(""), only=_OFF),
)


def modernize(root: Node, faults: list[Fault], notices: list[Fault]) -> Node:
    """Apply every rule in turn to a whole options file."""
    for rule in RULES:
        root = _apply(rule, root, rule.pattern.split("."), faults if rule.refuses else notices)
    return root


def _apply(rule: Rule, node: Node, pattern: list[str], said: list[Fault]) -> Node:
    fields = dict(node.fields)
    for key in _matches(pattern[0], fields):
        child = fields[key]
        if pattern[1:]:
            fields[key] = _apply(rule, child, pattern[1:], said)
        elif rule.only(child.value):
            said += [child.fault(message)] if (message := rule.mend(fields, key)) else []
    return replace(node, value=fields) if isinstance(node.value, dict) else node


def _matches(word: str, fields: Fields) -> Iterable[str]:
    return list(fields) if word == "*" else [word] if word in fields else []
