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


_MODELS = ("which_model", "which_model_G", "which_model_D")


def of(model: str, mend: Callable[[Fields, str], str]) -> Callable[[Fields, str], str]:
    """Mend the options of one network only."""

    def mend_if(fields: Fields, key: str) -> str:
        named = fields.get("which_model")
        return mend(fields, key) if named and named.value == model else ""

    return mend_if


def forget_within(**why: str) -> Callable[[Fields, str], str]:
    """Drop options of the mapping at hand, saying why."""

    def mend(fields: Fields, key: str) -> str:
        inner = fields[key].fields
        found = [option for option in inner if option.replace("-", "_") in why]
        if found:
            kept = {option: node for option, node in inner.items() if option not in found}
            fields[key] = replace(fields[key], value=kept)
        told = "; ".join(f"{option}, since {why[option.replace('-', '_')]}" for option in found)
        return told and f"dropped: {told}"

    return mend


def start_part(part: str) -> Callable[[Fields, str], str]:
    """Let a part of the network start from the weights that the option names."""

    def mend(fields: Fields, key: str) -> str:
        node = fields.pop(key)
        if node.value is None:
            return ""
        fields[part] = node
        return move_under("pretrained_parts")(fields, part)

    return mend


def into_networks(model: str, option: str) -> Callable[[Fields, str], str]:
    """Give an option to each network of a kind that does not say it; silently none where there is no such network."""

    def mend(fields: Fields, key: str) -> str:
        entries = dict(fields["networks"].fields) if "networks" in fields else {}
        meant = {
            name: entry for name, entry in entries.items() if _model(entry) == model and option not in entry.fields
        }
        for name, entry in meant.items():
            given = fields[key].at(join(entry.path, option))
            entries[name] = replace(entry, value={**entry.fields, option: given})
        if meant:
            fields["networks"] = replace(fields["networks"], value=entries)
            del fields[key]
        return f"read as networks.{', '.join(meant)}.{option}" if meant else ""

    return mend


def _model(network: Node) -> Any:
    return next((network.fields[key].value for key in _MODELS if key in network.fields), None)


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


def beside(other: str, mend: Callable[[Fields, str], str]) -> Callable[[Fields, str], str]:
    """Mend only where another option stands beside it."""
    return lambda fields, key: mend(fields, key) if other in fields else ""


def of_modes(*modes: str, mend: Callable[[Fields, str], str]) -> Callable[[Fields, str], str]:
    """Mend datasets of some modes only, as others may have an option of that name."""

    def mend_some(fields: Fields, key: str) -> str:
        return mend(fields, key) if "mode" in fields and fields["mode"].value in modes else ""

    return mend_some


_UNSCALED = ("random_dataset", "stylegan2", "torch_dataset", "zipfile")
"""Datasets that know no `scale`."""


def into_datasets(fields: Fields, key: str) -> str:
    """Give the option to each dataset within a dataset that does not say it."""
    node = fields.pop(key)
    for name, inner in fields.items():
        mode = inner.get("mode")
        if isinstance(inner.value, dict) and key not in inner.value and (mode is None or mode.value not in _UNSCALED):
            fields[name] = replace(inner, value={**inner.value, key: node.at(join(inner.path, key))})
    return f"read as *.{key}"


def a_dataset(phase: str) -> Callable[[Fields, str], str]:
    """Put a dataset at the top among the datasets, its mode being what it is for."""

    def mend(fields: Fields, key: str) -> str:
        path = f"datasets.{phase}"
        node = fields.pop(key).at(path)
        if isinstance(node.value, dict) and "mode" not in node.value:
            node = replace(node, value={"mode": Node(phase, node.mark, f"{path}.mode"), **node.value})
        datasets = fields.get("datasets") or Node({}, node.mark, "datasets")
        fields["datasets"] = replace(datasets, value={**datasets.fields, phase: node})
        return f"read as {path}"

    return mend


def forget_without(other: str, why: str) -> Callable[[Fields, str], str]:
    """Drop the option where another is not there."""

    def mend(fields: Fields, key: str) -> str:
        return "" if other in fields else forget(why)(fields, key)

    return mend


def hand_down(kind: str, *options: str) -> Callable[[Fields, str], str]:
    """Move options of a part of one type into each of the parts within it, unless they have such ones themselves."""

    def mend(fields: Fields, key: str) -> str:
        moved = [option for option in options if option in fields]
        if fields.get("type") is None or fields["type"].value != kind or not moved or not fields[key].fields:
            return ""
        given = {option: fields.pop(option) for option in moved}
        within = {}
        for name, part in fields[key].fields.items():
            more = {option: node.at(join(part.path, option)) for option, node in given.items()}
            within[name] = replace(part, value={**more, **part.fields}) if isinstance(part.value, dict) else part
        fields[key] = replace(fields[key], value=within)
        return f"each of them takes {' and '.join(map(repr, moved))} from around them"

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
_VIDEO = (
    "recurrent_mode", "recurrent_hr_generator", "minivid_crf", "frames_per_mini_vid", "minivid_start_no",
    "mini_vid_output_folder",
)  # fmt: skip
_TILED = ("single_image_extensible", "multi_frame_extensible", "paired_frame")

_OF_FLOWS = {
    "patch_size": "images may be of any size that the levels halve evenly",
    "noInitialInj": "it was never read",
    "fea_up0": "features are made in the sizes that the levels need",
    "fea_up_1": "features are made in the sizes that the levels need",
    "hidden_channels": "it was never read; 'CondAffineSeparatedAndCond' has them",
    "levelConditional": "it had no effect",
    "condAff": "it had no effect",
    "condFtAffine": "it had no effect",
}

_INJECTORS = ("steps.*.injectors", "eval.injectors")


def _asks_for_directions(value: Any) -> bool:
    """Whether a `batch_size_optimizer` is the one that waits for gradients to agree."""
    kind = value["type"].value if isinstance(value, dict) and "type" in value else value
    return kind in ("gradient_direction", "GradientDirectionOptimizer")


RULES = (
    Rule("model", forget("every run is trained by the one trainer")),
    Rule("distortion", forget("nothing reads it")),
    Rule("suffix", forget("nothing reads it")),
    Rule("recurrent_mode", forget(""), only=_OFF),
    Rule("scale", beside("recurrent_mode", mend=move_under("video"))),
    Rule("scale", into_networks("srflow", "flow_scale")),
    Rule("scale", forget("each dataset and network has its own")),
    *(Rule(key, move_under("video")) for key in _VIDEO),
    Rule("generator_img_index", forget("it was never read")),
    Rule("dataset", a_dataset("video")),
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
    Rule("datasets.*.needs_metadata", of_modes(*_TILED, mend=rename("strict"))),
    Rule("datasets.*.min_tile_size", of_modes("fullimage", mend=forget_without("target_size", "it cuts no tiles"))),
    Rule("datasets.*.scale", of_modes("combined", mend=into_datasets)),
    Rule("force_start_step", forget("a resumed run goes on where it was"), only=_is(-1, None)),
    Rule(
        "force_start_step",
        refuse("a resumed run goes on where it was; write start_step, and path.pretrain_model_<network> for weights"),
        refuses=True,
    ),
    Rule("training_data_encountered", forget("samples are counted from the iterations")),
    Rule("experiments", forget(""), only=_is(None, [])),
    Rule("experiments", refuse("the ancestor's did nothing, and failed when they logged; remove it"), refuses=True),
    Rule("wandb_project_name", forget("see 'wandb'")),
    Rule("wandb_run_name", forget("see 'wandb'")),
    Rule("wandb_progress_use_raw_steps", forget("everything is logged by iterations")),
    Rule("colab_mode", forget(""), only=_OFF),
    Rule(
        "colab_mode", refuse("nothing is copied to other machines; remove it, and copy the run's folder"), refuses=True
    ),
    *(
        Rule(key, forget("nothing is copied to other machines"))
        for key in ("ssh_server", "ssh_username", "ssh_password", "remote_path")
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
    Rule("networks.*.subnet.which_model_G", rename("which_model")),
    Rule("networks.*.subnet.which_model_D", rename("which_model")),
    *(Rule(f"networks.*{place}.which_model", write("resnet50"), only=_is("resnet52")) for place in ("", ".subnet")),
    Rule("networks.*.kwargs.blocks_per_checkpoint", forget("it was never read")),
    Rule("networks.*.args.blocks_per_checkpoint", forget("it was never read")),
    Rule("networks.*.blocks_per_checkpoint", forget("it was never read")),
    Rule("networks.*.do_checkpointing", rename("checkpointing_enabled")),
    Rule("networks.*.wandb_debug", forget("it watched a network in Weights & Biases")),
    Rule("networks.*.args", rename("kwargs")),
    *(
        Rule("networks.*.scale", of(f"discriminator_vgg_{kind}", forget("it was never read")))
        for kind in ("128", "128_gn")
    ),
    Rule("networks.*.K", of("srflow", move_under("flow"))),
    Rule("networks.*.pretrain_rrdb", of("srflow", start_part("RRDB"))),
    Rule("networks.*.pretrain_path", of("rrdb_latent_wrapper", start_part("wrappedRRDB"))),
    Rule("networks.*.flow", of("srflow", forget_within(**_OF_FLOWS))),
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
    *(Rule(f"{place}.*.subinjectors", hand_down("step_interleave", "in", "out")) for place in _INJECTORS),
    *(Rule(f"{place}.*.subtype", nest(for_each={"aslist"})) for place in _INJECTORS),
    *(Rule(f"{place}.*.scale", forget(""), only=_is(None)) for place in _INJECTORS),
    Rule("steps.*.losses.*.subtype", nest(recurrent={"recurrent_weights"}, for_element={"index"})),
    Rule("steps.*.injectors.*.fp16", forget("the run's precision holds for all"), only=_is(True)),
    Rule("steps.*.injectors.*.use_ema_model", rename("use_ema")),
    Rule("steps.*.injectors.*.multiple_requirement", forget("it was for lengths of audio")),
    Rule("eval.injectors.*.use_ema_model", rename("use_ema")),
    Rule("eval.injectors.*.multiple_requirement", forget("it was for lengths of audio")),
    Rule("eval.evaluators.*.diffusion_params.use_ema_model", rename("use_ema")),
    Rule("eval.evaluators.*.diffusion_params.multiple_requirement", forget("it was for lengths of audio")),
    Rule("eval.evaluators.*.dataset.name", forget("nothing reads it")),
    Rule("steps.*.losses.*.type", write("cross_entropy"), only=_is("crossentropy")),
    Rule("train.val_freq_megasamples", refuse("not supported; write val_freq, in iterations"), refuses=True),
    Rule("train.warmup_steps", rename("warmup_iter")),
    Rule("train.ema_on_cpu", forget(""), only=_OFF),
    Rule("eval.evaluators.*.type", write("flow_gaussian_nll"), only=_is("flownet_gaussian")),
    Rule("eval.evaluators.*.dataset.eval", forget("it was never read")),
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
