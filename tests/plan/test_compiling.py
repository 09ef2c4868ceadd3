"""What a sound options file becomes: names resolved, defaults filled in, and what is worth a notice."""

from pathlib import Path

import pytest
from torch import optim

import gradloom
from gradloom.config.sections import Pretrained
from gradloom.gates import Gate
from gradloom.networks.dcgan_generator import DCGANGenerator
from gradloom.plan.plan import Plan
from plan.planning import load, refused

SOUND = (Path(__file__).parents[1] / "faults" / "parts" / "sound.yml").read_text()
MEASURED = f"""{SOUND}
eval:
  injectors:
    doubled: {{type: concatenate, in: [fake, fake], out: doubled, dim: 0}}
  evaluators:
    a: {{type: psnr, for: generator.ema, fake: fake, real: hq}}
    b: {{type: psnr, fake: doubled, real: doubled}}
    c: {{type: grid, for: generator.ema, images: [fake]}}
    d: {{type: psnr, for: generator.ema, fake: fake, real: hq, samples: 8}}
"""
VAL = "datasets.val={mode: random_dataset, hq_shape: [1, 8, 8], length: 4}"


def notices(plan: Plan) -> list[str]:
    return [f"{notice.path}: {notice.message}" for notice in plan.notices]


def test_networks_take_their_options_flat_or_under_kwargs(tmp_path: Path) -> None:
    flat = load(tmp_path, SOUND).networks["generator"]
    nested = load(
        tmp_path,
        SOUND,
        "networks.generator={which_model: dcgan_generator, type: generator, "
        "kwargs: {image_size: 8, latent_dim: 4, channels: 1}, nf: 2}",
    ).networks["generator"]
    assert flat.recipe.make is nested.recipe.make is DCGANGenerator
    assert flat.recipe.arguments == nested.recipe.arguments == {
        "image_size": 8, "latent_dim": 4, "channels": 1, "nf": 2,
    }  # fmt: skip
    assert (flat.trainable, flat.ema, flat.gate, flat.pretrained) == (True, True, Gate(), None)


def test_what_a_file_says_of_a_network_beside_its_options(tmp_path: Path) -> None:
    network = load(
        tmp_path,
        SOUND,
        "networks.generator.after=5",
        "networks.generator.ema=false",
        "path={pretrain_model_generator: weights.pth, pretrain_base_path_generator: netG.}",
    ).networks["generator"]
    assert (network.gate, network.ema) == (Gate(5), False)
    assert isinstance(network.pretrained, Pretrained)
    assert (network.pretrained.file, network.pretrained.prefix) == (Path("weights.pth"), "netG.")


def test_averages_may_be_off_for_all(tmp_path: Path) -> None:
    plan = load(tmp_path, SOUND, "train.ema_enabled=false")
    assert not any(network.ema for network in plan.networks.values())


def test_a_port_left_open_is_the_network_that_the_step_trains(tmp_path: Path) -> None:
    plan = load(tmp_path, SOUND)
    assert plan.steps[1].losses[0].networks == ("discriminator",)
    other = load(tmp_path, SOUND, "steps.discriminator_step.losses.tell.discriminator=discriminator")
    assert other.steps[1].losses[0].networks == ("discriminator",)


def test_a_step_trains_one_network_or_several(tmp_path: Path) -> None:
    plan = load(
        tmp_path,
        SOUND,
        "steps.discriminator_step={training: [discriminator, generator], optimizer_params: {lr: 1}, "
        "injectors: {again: {type: generator, generator: generator, in: z, out: again}}, "
        "losses: {tell: {type: discriminator_gan, gan_type: gan, real: hq, fake: again, discriminator: discriminator}}}",
    )
    assert [step.trains for step in plan.steps] == [("generator",), ("discriminator", "generator")]


def test_a_step_is_as_open_as_it_and_its_optimizer_are(tmp_path: Path) -> None:
    plan = load(
        tmp_path,
        SOUND,
        "steps.generator_step.every=2",
        "steps.generator_step.before=50",
        "steps.generator_step.optimizer_params={lr: 1, after: 7, before: 90}",
    )
    assert plan.steps[0].gate == Gate(7, 50, 2)


def test_optimizers_of_a_step_of_its_own_and_of_another(tmp_path: Path) -> None:
    plan = load(
        tmp_path,
        SOUND,
        "steps.later={training: generator, optimizer_of: generator_step, clip_grad_norm: 0, clip_grad_eps: 2, "
        "injectors: {again: {type: generator, generator: generator, in: z, out: again}}, "
        "losses: {pix: {type: pix, criterion: l1, fake: again, real: hq}}}",
    )
    first, _, later = plan.steps
    assert first.optimizer is not None and later.optimizer is None
    assert first.optimizer.recipe.make is optim.AdamW
    assert (first.updater, later.updater) == ("generator_step", "generator_step")
    assert (later.clip_grad_norm, later.clip_grad_eps) == (None, 2.0)


def test_what_a_batch_has_is_what_the_dataset_declares(tmp_path: Path) -> None:
    assert load(tmp_path, SOUND).given == ("hq",)
    both = load(tmp_path, SOUND, "datasets.train.lq_shape=[1, 4, 4]")
    assert both.given == ("hq", "lq")


def test_without_a_dataset_what_nothing_writes_comes_with_the_batch(tmp_path: Path) -> None:
    plan = load(tmp_path, SOUND, "datasets=")
    assert plan.datasets == {}
    assert plan.given == ("hq",)


def test_evaluators_that_look_at_the_same_are_measured_together_with_what_they_need(tmp_path: Path) -> None:
    plan = load(tmp_path, MEASURED, VAL)
    grouped = [
        ([call.name for call in measure.calls], measure.stands_in, measure.samples, [c.name for c in measure.injectors])
        for measure in plan.measures
    ]
    assert grouped == [
        (["a", "c"], "generator.ema", None, ["noise", "drawn"]),
        (["b"], None, None, ["noise", "drawn", "doubled"]),
        (["d"], "generator.ema", 8, ["noise", "drawn"]),
    ]
    assert [measure.inputs for measure in plan.measures] == [("hq",)] * 3


def test_injectors_under_eval_stand_in_for_those_of_steps(tmp_path: Path) -> None:
    plan = load(
        tmp_path,
        SOUND,
        VAL,
        "eval={injectors: {other: {type: direct, in: hq, out: fake}}, "
        "evaluators: {a: {type: psnr, fake: fake, real: hq}}}",
    )
    assert [call.path for call in plan.measures[0].injectors] == ["eval.injectors.other"]


def test_injectors_only_for_training_do_not_evaluate(tmp_path: Path) -> None:
    only = "steps.generator_step.injectors.drawn.train=true"
    evaluators = "eval={evaluators: {a: {type: psnr, fake: fake, real: hq}}}"
    assert refused(tmp_path, SOUND, VAL, evaluators) == []
    (message,) = refused(tmp_path, SOUND, VAL, evaluators, only)
    assert message.endswith(
        "eval.evaluators.a.fake: reads 'fake', which steps.generator_step.injectors.drawn (x.yml:17:7) does not write "
        "here; remove its 'train: true'"
    )


def test_a_sound_file_has_no_notice(tmp_path: Path) -> None:
    assert notices(load(tmp_path, SOUND)) == []


@pytest.mark.parametrize(
    ("override", "notice"),
    [
        (
            "networks.third={which_model: dcgan_generator, image_size: 8}",
            "networks.third: no step trains it; write 'trainable: false' if that is meant",
        ),
        (
            "steps.generator_step.injectors.more={type: direct, in: fake, out: more}",
            "steps.generator_step.injectors.more: nothing reads 'more', so it is left out",
        ),
        (
            "steps.generator_step.injectors.more={type: generator, generator: generator, in: z, out: [one, two]}",
            "steps.generator_step.injectors.more: nothing reads 'one', 'two', so it is left out",
        ),
        (
            "steps.third={training: generator}",
            "steps.third: it has no losses, so it trains nothing",
        ),
        (
            "steps.third={training: discriminator, optimizer_params: {lr: 1}, "
            "losses: {tell: {type: discriminator_gan, gan_type: gan, real: hq, fake: fake}}}",
            "networks.discriminator: trained by discriminator_step and third, each with an optimizer of its own",
        ),
        (
            "train.gen_lr_steps=[10]",
            "train.gen_lr_steps: it has no effect; it is of default_lr_scheme: MultiStepLR or ProgressiveMultiStepLR",
        ),
        (
            "train={niter: 1, default_lr_scheme: MultiStepLR, T_period: [5]}",
            "train.T_period: it has no effect; it is of default_lr_scheme: CosineAnnealingLR_Restart",
        ),
        ("train.clear_state=true", "train.clear_state: it has no effect without 'restarts'"),
        ("model=extensibletrainer", "model: dropped: every run is trained by the one trainer"),
    ],
)
def test_what_is_odd_but_may_be_meant_is_a_notice(tmp_path: Path, override: str, notice: str) -> None:
    assert notice in notices(load(tmp_path, SOUND, override))


def test_options_of_a_learning_rate_scheme_that_say_what_is_so_anyway_are_no_notice(tmp_path: Path) -> None:
    assert notices(load(tmp_path, SOUND, "train.gen_lr_steps=[]", "train.warmup=0", "train.clear_state=false")) == []
    cleared = ["train.restarts=[5]", "train.clear_state=true"]  # forgets without a scheme, too
    assert notices(load(tmp_path, SOUND, *cleared)) == []


def test_a_third_step_of_ones_own_optimizer_does_not_hide_the_other_two(tmp_path: Path) -> None:
    tell = "losses: {tell: {type: discriminator_gan, gan_type: gan, real: hq, fake: fake}}"
    third = f"steps.third={{training: discriminator, optimizer_params: {{lr: 1}}, {tell}}}"
    fourth = f"steps.fourth={{training: discriminator, optimizer_of: third, {tell}}}"
    (notice,) = notices(load(tmp_path, SOUND, third, fourth))
    assert notice.startswith("networks.discriminator: trained by discriminator_step and third, each with")


def test_two_steps_of_one_optimizer_are_no_notice(tmp_path: Path) -> None:
    plan = load(
        tmp_path,
        SOUND,
        "steps.third={training: discriminator, optimizer_of: discriminator_step, "
        "losses: {tell: {type: discriminator_gan, gan_type: gan, real: hq, fake: fake}}}",
    )
    assert notices(plan) == []


def test_what_is_shown_or_measured_is_not_left_out(tmp_path: Path) -> None:
    more = "steps.generator_step.injectors.more={type: direct, in: fake, out: more}"
    assert notices(load(tmp_path, SOUND, more, "logger={visuals: [more]}")) == []
    assert notices(load(tmp_path, SOUND, more, VAL, "eval={evaluators: {a: {type: grid, images: [more]}}}")) == []


def test_what_is_to_be_shown_and_is_never_written_is_said(tmp_path: Path) -> None:
    plan = load(tmp_path, SOUND, "logger={visuals: [fake, cropped]}")
    (notice,) = notices(plan)
    assert notice.startswith("logger.visuals[1]: nothing writes 'cropped', so it is not shown; known: ")
    assert plan.sections.logger.visuals == ["fake"]
    assert plan.program(0, frozenset(plan.sections.logger.visuals)).inputs == ("hq",)
    unknown = load(tmp_path, SOUND, "logger={visuals: [fake, cropped]}", "datasets=")  # it may come with the batch
    assert unknown.sections.logger.visuals == ["fake", "cropped"]
    (message,) = refused(tmp_path, SOUND, "logger={visuals: [fakes]}")
    assert "nothing writes 'fakes'; did you mean 'fake'?" in message


def test_what_is_shown_has_to_be_there_whenever_it_is_written(tmp_path: Path) -> None:
    seldom = "steps.generator_step.injectors.seldom={type: direct, in: fake, out: seldom, every: 2}"
    derived = "steps.generator_step.injectors.derived={type: direct, in: seldom, out: derived}"
    assert refused(tmp_path, SOUND, seldom, derived) == []
    assert refused(tmp_path, SOUND, seldom, "logger={visuals: [seldom]}") == []
    (message,) = refused(tmp_path, SOUND, seldom, derived, "logger={visuals: [derived]}")
    assert "reads 'seldom' (always), which steps.generator_step.injectors.seldom does not write in all" in message


def test_every_trainer_has_parts_of_its_own(tmp_path: Path) -> None:
    plan = load(tmp_path, MEASURED, VAL)
    fresh = plan.fresh()
    for ours, theirs in zip(plan.steps, fresh.steps, strict=True):
        for one, other in zip((*ours.injectors, *ours.losses), (*theirs.injectors, *theirs.losses), strict=True):
            assert one.part is not other.part
            assert (one.path, one.reads, one.writes, one.networks) == (
                other.path, other.reads, other.writes, other.networks,
            )  # fmt: skip
    assert fresh.program(0) is not plan.program(0)


def test_all_faults_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = SOUND.replace("niter: 10", "niter: ten").replace("lr: 1e-4", "lr: slow").replace("name: sound", "name: 3")
    places = [message.split(": ")[0] for message in refused(tmp_path, text)]
    assert places == ["x.yml:2:1", "x.yml:14:24", "x.yml:22:24", "x.yml:26:9"]


def test_a_file_may_be_named_by_text(tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text(SOUND)
    assert gradloom.load(str(tmp_path / "x.yml")).name == "sound"


def test_what_begins_after_the_run_ends_is_told(tmp_path: Path) -> None:
    late = ["train.niter=10", "steps.discriminator_step.after=10", "steps.generator_step.losses.fool.after=9"]
    later = "steps.generator_step.losses.fool.every=6"
    said = "takes part from iteration {} on, and the run ends before, as train.niter says"
    assert notices(load(tmp_path, SOUND, *late)) == [f"steps.discriminator_step: {said.format(10)}"]
    assert f"steps.generator_step.losses.fool: {said.format(12)}" in notices(load(tmp_path, SOUND, *late, later))
