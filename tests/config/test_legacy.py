"""The ancestor's spellings: every rule of the table rewrites, drops or refuses what it says."""

from typing import Any

import pytest

from gradloom.config.legacy import RULES, modernize
from gradloom.config.source import parse
from gradloom.errors import Fault


def modern(text: str) -> tuple[Any, list[str], list[str]]:
    node, found = parse(text, "x.yml")
    assert node is not None and found == []
    faults, notices = list[Fault](), list[Fault]()
    root = modernize(node, faults, notices)
    return root.plain(), [str(fault) for fault in faults], [str(notice) for notice in notices]


SILENT: list[tuple[str, Any]] = [
    ("fp16: false", {}),
    ("fp16:", {}),
    ("wandb: false", {}),
    ("checkpointing_enabled: false", {}),
    ("keep_optimizer_states_on_cpu: false", {}),
    ("steps: {s: {check_grads_for_nan: false}}", {"steps": {"s": {}}}),
    ("train: {ema_on_cpu: false, auto_collate:, batch_size_optimizer:}", {"train": {}}),
    ("train: {restarts: ~, restart_weights: ~, clear_state: ~, lr_gamma: 0.5}", {"train": {"lr_gamma": 0.5}}),
    ("{experiments: [], colab_mode: false, path: {optimizer_reset: false, alt_path: ~}}", {"path": {}}),
    ("eval: {pure: false}", {"eval": {}}),
    ("logger: {recurrent_visual_indices: false, is_mel_spectrogram: false}", {"logger": {}}),
]

REWRITTEN: list[tuple[str, Any, list[str]]] = [
    ("model: extensibletrainer", {}, ["model: dropped: every run is trained by the one trainer"]),
    ("distortion: sr", {}, ["distortion: dropped: nothing reads it"]),
    ("suffix: x", {}, ["suffix: dropped: nothing reads it"]),
    ("scale: 4", {}, ["scale: dropped: each dataset and network has its own"]),
    ("amp_opt_level: O1", {}, ["amp_opt_level: dropped: apex is gone; see 'precision'"]),
    ("cuda_benchmarking_enabled: true", {}, ["cuda_benchmarking_enabled: dropped: cuDNN's benchmark is on"]),
    ("dist_backend: apex", {}, ["dist_backend: dropped: gradients are averaged without a wrapper"]),
    ("ddp_find_unused_parameters: true", {}, ["ddp_find_unused_parameters: dropped: gradients are averaged without a "
     "wrapper"]),
    ("ddp_static_graph: true", {}, ["ddp_static_graph: dropped: gradients are averaged without a wrapper"]),
    ("automatically_recover_nan_by_reverting_n_saves: 2", {}, ["automatically_recover_nan_by_reverting_n_saves: "
     "dropped: the ancestor never did it"]),
    ("fp16: true", {"precision": "fp16"}, ["fp16: read as 'precision: fp16'"]),
    ("grad_scaler_enabled: true", {}, ["grad_scaler_enabled: dropped: fp16 has a scaler, fp32 and bf16 need none"]),
    ("training_data_encountered: 5", {}, ["training_data_encountered: dropped: samples are counted from the "
     "iterations"]),
    ("{ssh_server: a, ssh_username: b, ssh_password: secret, remote_path: d}", {}, [f"{key}: dropped: nothing is copied to "
     "other machines" for key in ("ssh_server", "ssh_username", "ssh_password", "remote_path")]),
    ("{wandb_project_name: a, wandb_run_name: b, wandb_progress_use_raw_steps: true}", {}, ["wandb_project_name: dropped: "
     "see 'wandb'", "wandb_run_name: dropped: see 'wandb'", "wandb_progress_use_raw_steps: dropped: everything is logged "
     "by iterations"]),
    ("steps: {s: {check_grads_for_nan: true}}", {"steps": {"s": {}}}, ["steps.s.check_grads_for_nan: dropped: an update "
     "with gradients that are not finite is always skipped; see 'nan'"]),
    ("train: {ema_on_cpu: true}", {"train": {}}, ["train.ema_on_cpu: dropped: averages are where their networks are, and "
     "follow each update"]),
    ("train: {batch_size_optimizer: {type: megabatch}}", {"train": {}}, ["train.batch_size_optimizer: dropped: each step "
     "updates after every batch, as it did"]),
    ("force_start_step: -1", {}, ["force_start_step: dropped: a resumed run goes on where it was"]),
    ("{scale: 4, networks: {f: {which_model_G: srflow}, g: {which_model: srflow, flow_scale: 8}, h: {}}}", {"networks":
     {"f": {"which_model": "srflow", "flow_scale": 4}, "g": {"which_model": "srflow", "flow_scale": 8}, "h": {}}},
     ["scale: read as networks.f.flow_scale", "networks.f.which_model_G: read as 'which_model'"]),
    ("networks: {d: {which_model_D: discriminator_vgg_128_gn, scale: 2}, e: {which_model: discriminator_vgg_128, scale: 1},"
     " g: {which_model: RRDBNet, scale: 4}}", {"networks": {"d": {"which_model": "discriminator_vgg_128_gn"}, "e": {
     "which_model": "discriminator_vgg_128"}, "g": {"which_model": "RRDBNet", "scale": 4}}}, [
     "networks.d.which_model_D: read as 'which_model'", "networks.e.scale: dropped: it was never read",
     "networks.d.scale: dropped: it was never read"]),
    ("networks: {f: {which_model: dvae, kwargs: {channels: 1, straight_through: false, record_codes: true}}}", {"networks":
     {"f": {"which_model": "dvae", "kwargs": {"channels": 1}}}}, ["networks.f.kwargs: dropped: straight_through, since "
     "gradients always pass straight through; record_codes, since the perplexity of the codes is always told"]),
    ("networks: {f: {which_model: srflow, K: 2, flow: {L: 1}}}", {"networks": {"f": {"which_model": "srflow", "flow":
     {"L": 1, "K": 2}}}}, ["networks.f.K: read as flow.K"]),
    ("networks: {f: {which_model: srflow, flow: {L: 1, patch_size: 160, noInitialInj: true, fea_up-1: true}}}",
     {"networks": {"f": {"which_model": "srflow", "flow": {"L": 1}}}}, ["networks.f.flow: dropped: patch_size, since "
     "images may be of any size that the levels halve evenly; noInitialInj, since it was never read; fea_up-1, since "
     "features are made in the sizes that the levels need"]),
    ("networks: {f: {which_model: srflow, pretrain_rrdb: x.pth}, g: {which_model: rrdb_latent_wrapper, pretrain_path: "
     "y.pth}}", {"networks": {"f": {"which_model": "srflow", "pretrained_parts": {"RRDB": "x.pth"}}, "g": {
     "which_model": "rrdb_latent_wrapper", "pretrained_parts": {"wrappedRRDB": "y.pth"}}}}, [
     "networks.f.pretrain_rrdb: read as pretrained_parts.RRDB",
     "networks.g.pretrain_path: read as pretrained_parts.wrappedRRDB"]),
    ("networks: {g: {which_model_G: x}}", {"networks": {"g": {"which_model": "x"}}}, ["networks.g.which_model_G: read "
     "as 'which_model'"]),
    ("networks: {g: {which_model_D: x}}", {"networks": {"g": {"which_model": "x"}}}, ["networks.g.which_model_D: read "
     "as 'which_model'"]),
    ("networks: {g: {which_model: byol, subnet: {which_model_G: resnet52}}, h: {which_model: resnet52, subnet: {"
     "which_model_D: x}}}", {"networks": {"g": {"which_model": "byol", "subnet": {"which_model": "resnet50"}},
     "h": {"which_model": "resnet50", "subnet": {"which_model": "x"}}}}, ["networks.g.subnet.which_model_G: read as "
     "'which_model'", "networks.h.subnet.which_model_D: read as 'which_model'", "networks.h.which_model: read as "
     "'resnet50'", "networks.g.subnet.which_model: read as 'resnet50'"]),
    ("networks: {g: {args: {nf: 3}}}", {"networks": {"g": {"kwargs": {"nf": 3}}}}, ["networks.g.args: read as "
     "'kwargs'"]),
    ("{keep_optimizer_states_on_cpu: true, steps: {s: {lr: 1}, t: {optimizer_params: {offload: false}}, u: {}}}",
     {"steps": {"s": {"optimizer_params": {"lr": 1, "offload": True}}, "t": {"optimizer_params": {"offload": False}},
     "u": {}}}, ["steps.s.lr: read as optimizer_params.lr", "keep_optimizer_states_on_cpu: read as "
     "steps.*.optimizer_params.offload"]),
    ("networks: {g: {do_checkpointing: true}}", {"networks": {"g": {"checkpointing_enabled": True}}},
     ["networks.g.do_checkpointing: read as 'checkpointing_enabled'"]),
    ("networks: {g: {wandb_debug: true}}", {"networks": {"g": {}}}, ["networks.g.wandb_debug: dropped: it watched a "
     "network in Weights & Biases"]),
    ("networks: {g: {blocks_per_checkpoint: 1}, h: {kwargs: {blocks_per_checkpoint: 1}}}", {"networks": {"g": {},
     "h": {"kwargs": {}}}}, ["networks.h.kwargs.blocks_per_checkpoint: dropped: it was never read",
     "networks.g.blocks_per_checkpoint: dropped: it was never read"]),
    ("networks: {g: {args: {blocks_per_checkpoint: 1}}}", {"networks": {"g": {"kwargs": {}}}},
     ["networks.g.args.blocks_per_checkpoint: dropped: it was never read", "networks.g.args: read as 'kwargs'"]),
    ("steps: {s: {lr: 1, beta1: 0.5}}", {"steps": {"s": {"optimizer_params": {"lr": 1, "beta1": 0.5}}}},
     ["steps.s.lr: read as optimizer_params.lr", "steps.s.beta1: read as optimizer_params.beta1"]),
    ("steps: {s: {weight_decay: 1, beta2: 0.5, optimizer_params: {lr: 1}}}", {"steps": {"s": {"optimizer_params": {
     "lr": 1, "weight_decay": 1, "beta2": 0.5}}}}, ["steps.s.weight_decay: read as optimizer_params.weight_decay",
     "steps.s.beta2: read as optimizer_params.beta2"]),
    ("steps: {s: {lr: 1, optimizer_params: {lr: 2}}}", {"steps": {"s": {"optimizer_params": {"lr": 2}}}},
     ["steps.s.lr: dropped: 'optimizer_params' has it too"]),
    ("steps: {s: {generator: g, generator_outputs: [x], loss_log_buffer: 3}}", {"steps": {"s": {}}},
     ["steps.s.generator: dropped: it was never read", "steps.s.generator_outputs: dropped: it was never read",
      "steps.s.loss_log_buffer: dropped: losses are means over each logging interval"]),
    (
        "eval: {evaluators: {e: {dataset: {name: a}, diffusion_params: {use_ema_model: true, multiple_requirement: 8}}}}",
        {"eval": {"evaluators": {"e": {"dataset": {}, "diffusion_params": {"use_ema": True}}}}},
        [
            "eval.evaluators.e.diffusion_params.use_ema_model: read as 'use_ema'",
            "eval.evaluators.e.diffusion_params.multiple_requirement: dropped: it was for lengths of audio",
            "eval.evaluators.e.dataset.name: dropped: nothing reads it",
        ],
    ),
    (
        "{steps: {s: {injectors: {i: {multiple_requirement: 8}}}}, "
        "eval: {injectors: {i: {use_ema_model: true, multiple_requirement: 8}}}}",
        {"steps": {"s": {"injectors": {"i": {}}}}, "eval": {"injectors": {"i": {"use_ema": True}}}},
        [
            "steps.s.injectors.i.multiple_requirement: dropped: it was for lengths of audio",
            "eval.injectors.i.use_ema_model: read as 'use_ema'",
            "eval.injectors.i.multiple_requirement: dropped: it was for lengths of audio",
        ],
    ),
    ("steps: {s: {injectors: {i: {fp16: true, use_ema_model: true}}}}", {"steps": {"s": {"injectors": {"i": {
     "use_ema": True}}}}}, ["steps.s.injectors.i.fp16: dropped: the run's precision holds for all",
     "steps.s.injectors.i.use_ema_model: read as 'use_ema'"]),
    ("steps: {s: {losses: {l: {type: crossentropy}}}}", {"steps": {"s": {"losses": {"l": {"type": "cross_entropy"}}}}},
     ["steps.s.losses.l.type: read as 'cross_entropy'"]),
    ("steps: {s: {losses: {l: {type: recurrent, subtype: pix, real: a, weight: 2, recurrent_weights: [1]}}}}",
     {"steps": {"s": {"losses": {"l": {"type": "recurrent", "weight": 2, "recurrent_weights": [1], "part": {"type":
     "pix", "real": "a"}}}}}}, ["steps.s.losses.l.subtype: read as part: {type: pix, real}"]),
    ("steps: {s: {injectors: {i: {type: for_each, subtype: grey, in: a, out: b, aslist: true}}}}", {"steps": {"s": {
     "injectors": {"i": {"type": "for_each", "aslist": True, "part": {"type": "grey", "in": "a", "out": "b"}}}}}},
     ["steps.s.injectors.i.subtype: read as part: {type: grey, in, out}"]),
    ("datasets: {train: {mode: paired_frame, needs_metadata: true}}", {"datasets": {"train": {"mode": "paired_frame",
     "strict": True}}}, ["datasets.train.needs_metadata: read as 'strict'"]),
    ("datasets: {val: {mode: fullimage, min_tile_size: 32}}", {"datasets": {"val": {"mode": "fullimage"}}},
     ["datasets.val.min_tile_size: dropped: it cuts no tiles"]),
    ("datasets: {train: {mode: combined, scale: 2, a: {mode: photos}, b: {mode: photos, scale: 4}, c: {mode: zipfile}}}",
     {"datasets": {"train": {"mode": "combined", "a": {"mode": "photos", "scale": 2}, "b": {"mode": "photos", "scale":
     4}, "c": {"mode": "zipfile"}}}}, ["datasets.train.scale: read as *.scale"]),
    ("eval: {injectors: {i: {type: for_each, subtype: grey, in: a, out: b}, n: {type: add_noise, scale: ~}}}", {"eval": {
     "injectors": {"i": {"type": "for_each", "part": {"type": "grey", "in": "a", "out": "b"}}, "n": {"type": "add_noise"}}}},
     ["eval.injectors.i.subtype: read as part: {type: grey, in, out}"]),
    ("steps: {s: {injectors: {i: {type: step_interleave, in: a, out: b, subinjectors: {x: {type: grey}, y: {in: c}}}}}}",
     {"steps": {"s": {"injectors": {"i": {"type": "step_interleave", "subinjectors": {"x": {"type": "grey", "in": "a",
     "out": "b"}, "y": {"in": "c", "out": "b"}}}}}}},
     ["steps.s.injectors.i.subinjectors: each of them takes 'in' and 'out' from around them"]),
    ("eval: {evaluators: {e: {type: flownet_gaussian, dataset: {eval: false}}}}", {"eval": {"evaluators": {"e": {"type":
     "flow_gaussian_nll", "dataset": {}}}}}, ["eval.evaluators.e.type: read as 'flow_gaussian_nll'",
     "eval.evaluators.e.dataset.eval: dropped: it was never read"]),
    ("train: {warmup_steps: 5}", {"train": {"warmup_iter": 5}}, ["train.warmup_steps: read as 'warmup_iter'"]),
    ("train: {warmup_steps: 5, warmup_iter: 6}", {"train": {"warmup_iter": 6}}, ["train.warmup_steps: dropped: "
     "'warmup_iter' is there too"]),
    ("eval: {compute_psnr: true, compute_fea: true}", {"eval": {}}, ["eval.compute_psnr: dropped: it was never read; "
     "see the evaluator 'psnr'", "eval.compute_fea: dropped: it was never read"]),
    ("{dataset: {video_file: x, name: y}, minivid_crf: 3, generator_img_index: 1, recurrent_mode: false, scale: 4}",
     {"datasets": {"video": {"mode": "video", "video_file": "x", "name": "y"}}, "video": {"minivid_crf": 3}},
     ["scale: dropped: each dataset and network has its own", "minivid_crf: read as video.minivid_crf",
      "generator_img_index: dropped: it was never read", "dataset: read as datasets.video"]),
    ("{recurrent_mode: true, scale: 4, recurrent_hr_generator: g, frames_per_mini_vid: 1, minivid_start_no: 2, "
     "mini_vid_output_folder: x}", {"video": {"scale": 4, "recurrent_mode": True, "recurrent_hr_generator": "g",
     "minivid_start_no": 2, "frames_per_mini_vid": 1, "mini_vid_output_folder": "x"}}, ["scale: read as video.scale",
     "recurrent_mode: read as video.recurrent_mode", "recurrent_hr_generator: read as video.recurrent_hr_generator",
     "frames_per_mini_vid: read as video.frames_per_mini_vid", "minivid_start_no: read as video.minivid_start_no",
     "mini_vid_output_folder: read as video.mini_vid_output_folder"]),
]  # fmt: skip

REFUSED: list[tuple[str, Any, list[str]]] = [
    ("logger: {recurrent_visual_indices: [0], is_mel_spectrogram: true}", {"logger": {}}, ["logger.recurrent_visual_"
     "indices: not supported; show keys of images, as indices_extractor writes them of a film",
     "logger.is_mel_spectrogram: it is for audio, which is left out; remove it"]),
    ("wandb: true", {}, ["wandb: not supported yet; remove it: metrics.jsonl and TensorBoard are written"]),
    ("force_start_step: 100", {}, ["force_start_step: a resumed run goes on where it was; write start_step, and "
     "path.pretrain_model_<network> for weights"]),
    ("experiments: [x]", {}, ["experiments: the ancestor's did nothing, and failed when they logged; remove it"]),
    ("colab_mode: true", {}, ["colab_mode: nothing is copied to other machines; remove it, and copy the run's folder"]),
    ("path: {optimizer_reset: true, alt_path: x}", {"path": {}}, ["path.optimizer_reset: not supported; start anew from "
     "the weights, with path.pretrain_model_<network>", "path.alt_path: not supported; a run has one folder, which may be "
     "copied"]),
    ("train: {batch_size_optimizer: {type: gradient_direction, max_full_batches: 10}}", {"train": {}}, [
     "train.batch_size_optimizer: gradient_direction never worked in the ancestor; remove it, and write "
     "mega_batch_factor"]),
    ("train: {epochs: 1}", {"train": {}}, ["train.epochs: write niter, in iterations; 'gradloom check' says how many an "
                                           "epoch has"]),
    ("train: {val_freq_megasamples: 1}", {"train": {}}, ["train.val_freq_megasamples: not supported; write val_freq, "
     "in iterations"]),
]  # fmt: skip

KEPT = [
    "checkpointing_enabled: true",
    "steps: {s: {injectors: {i: {fp16: false}}}}",
    "steps: {s: {injectors: {i: {type: step_interleave, subinjectors: {x: {type: grey, in: a, out: b}}}}}}",
    "steps: {s: {losses: {l: {type: pix}}}}",
    "steps: {s: {losses: {l: {type: cross_entropy, subtype: bce}}}}",
    "train: {auto_collate: 1}",
    "eval: {pure: true}",
    "fp16: 1",
    "networks: {f: {which_model: other, K: 2, pretrain_path: x, flow: {patch_size: 3}}}",
    "networks: {f: {which_model: srflow, flow: {K: 2}}}",
    "networks: {g: {which_model: resnet50, subnet: {which_model: resnet50}}}",
    "networks: [which_model_G]",
    "datasets: {train: {mode: fullimage, min_tile_size: 32, target_size: 32}}",
    "datasets: {train: {mode: mine, min_tile_size: 32, needs_metadata: true, scale: 2}}",
    "datasets: {train: {scale: 2}}",
    "steps: {s: 3}",
    "networks:",
]


def placed(messages: list[str]) -> list[str]:
    """Messages without their places, which all have to be in line 1."""
    assert all(message.startswith("x.yml:1:") for message in messages)
    return [message.split(": ", 1)[1] for message in messages]


@pytest.mark.parametrize(("text", "plain"), SILENT)
def test_what_says_only_what_is_so_anyway_goes_silently(text: str, plain: Any) -> None:
    assert modern(text) == (plain, [], [])


@pytest.mark.parametrize(("text", "plain", "messages"), REWRITTEN)
def test_what_is_dropped_or_rewritten_is_said(text: str, plain: Any, messages: list[str]) -> None:
    found, faults, notices = modern(text)
    assert found == plain
    assert faults == []
    assert placed(notices) == messages


@pytest.mark.parametrize(("text", "plain", "messages"), REFUSED)
def test_what_is_not_supported_is_refused(text: str, plain: Any, messages: list[str]) -> None:
    found, faults, notices = modern(text)
    assert found == plain
    assert placed(faults) == messages
    assert notices == []


@pytest.mark.parametrize("text", KEPT)
def test_what_no_rule_is_for_stays_to_be_judged_elsewhere(text: str) -> None:
    node, _ = parse(text, "x.yml")
    assert node is not None
    assert modern(text) == (node.plain(), [], [])


def test_every_rule_is_tested_here() -> None:
    texts = [case[0] for case in (*SILENT, *REWRITTEN, *REFUSED)]
    names = {rule.pattern.rpartition(".")[2] for rule in RULES}
    assert [name for name in names if not any(name in text for text in texts)] == []


def test_what_moves_keeps_its_line_and_takes_its_new_path() -> None:
    node, _ = parse("steps:\n  s:\n    lr: 1\n", "x.yml")
    assert node is not None
    moved = modernize(node, [], []).fields["steps"].fields["s"].fields["optimizer_params"].fields["lr"]
    assert (moved.mark.line, moved.path) == (3, "steps.s.optimizer_params.lr")
