"""Spellings of the ancestor that it dropped, ignored or got wrong: one table, each with a notice.

A rule is a dotted pattern (`*` is any one name) and what to do with the nodes found there. A rule that
forgets says why nothing is lost; a rule that refuses says what there is instead.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from gradloom.config.mending import (
    Fields,
    Mend,
    beside,
    forget,
    forget_within,
    forget_without,
    into_each,
    move_under,
    refuse,
    rename,
    write,
)
from gradloom.config.node import Node
from gradloom.config.reshaping import (
    a_dataset,
    hand_down,
    into_datasets,
    into_networks,
    nest,
    of,
    of_modes,
    start_part,
)
from gradloom.errors import Fault


@dataclass(frozen=True)
class Rule:
    """What to do with an option: `mend` changes the fields around it, and returns what to say."""

    pattern: str
    mend: Mend
    only: Callable[[Any], bool] = lambda value: True
    refuses: bool = False


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
_LEFT_OUT = ("auto_collate", "clear_state", "restarts", "restart_weights")  # ~ said the same as nothing
_INJECTORS = ("steps.*.injectors", "eval.injectors")
_OF_DVAES = {
    "straight_through": "gradients always pass straight through",
    "record_codes": "the perplexity of the codes is always told",
    "discretization_loss_averaging_steps": "it had no effect",
}


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
    Rule("fp16", rename("precision", "fp16"), only=_is(True)),
    Rule("fp16", forget(""), only=_OFF),
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
    Rule("path.alt_path", forget(""), only=_OFF),
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
    Rule("networks.*.kwargs", of("dvae", forget_within(**_OF_DVAES))),
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
    Rule(
        "train.epochs", refuse("write niter, in iterations; 'gradloom check' says how many an epoch has"), refuses=True
    ),
    Rule("train.val_freq_megasamples", refuse("not supported; write val_freq, in iterations"), refuses=True),
    Rule("train.warmup_steps", rename("warmup_iter")),
    Rule("train.ema_on_cpu", forget(""), only=_OFF),
    Rule("eval.evaluators.*.type", write("flow_gaussian_nll"), only=_is("flownet_gaussian")),
    Rule("eval.evaluators.*.dataset.eval", forget("it was never read")),
    Rule("train.ema_on_cpu", forget("averages are where their networks are, and follow each update")),
    *(Rule(f"train.{key}", forget(""), only=_is(None)) for key in _LEFT_OUT),
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
    Rule(
        "logger.recurrent_visual_indices",
        refuse("not supported; show keys of images, as indices_extractor writes them of a film"),
        refuses=True,
    ),
    Rule("logger.is_mel_spectrogram", forget(""), only=_OFF),
    Rule("logger.is_mel_spectrogram", refuse("it is for audio, which is left out; remove it"), refuses=True),
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
