"""Metrics that generate images themselves, against the same features and torch-fidelity's distance."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate
from torch.utils.data import Dataset
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torchvision.io import read_image, write_png

import gradloom
from gradloom.engine.preflight.look import look_ahead
from gradloom.errors import RunError
from gradloom.evaluators.fid_for_structural_nets import FidForStructuralNets
from gradloom.evaluators.sr_fid import SrFid
from gradloom.evaluators.sr_style_transfer import SrStyleTransfer
from gradloom.evaluators.style_transfer import StyleTransfer
from gradloom.parts import DatasetChoice, Evaluator, Port
from making import plan_of, trainer_of


class Critic(nn.Module):
    def features(self, x: Tensor) -> Tensor:
        return x.double().flatten(1)[:, ::7].sin()


class Generator(nn.Module):
    """Makes something of whatever it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []
        self.layer = nn.Linear(5, 3 * 8 * 8)

    def forward(self, x: Tensor, *more: Tensor) -> Any:
        self.seen.append(x)
        if x.dim() == 2:
            images = self.layer(x).view(-1, 3, 8, 8).tanh()
            return [more, images]
        return interpolate(x, size=(8, 8)) * 0.7 + sum(interpolate(one, size=(8, 8)).flip(0) for one in more)


class Alone(nn.Module):
    """Returns what it is given, in a tuple."""

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (x,)


class Pairs(Dataset[dict[str, Tensor]]):
    keys = ("hq", "lq")

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> dict[str, Any]:
        hq = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(index))
        return {"hq": hq, "lq": avg_pool2d(hq, 2) ** 2, "name": "x"}


def distance(fake: Tensor, real: Tensor) -> float:
    statistics = [fid_features_to_statistics(Critic().features(x)) for x in (fake, real)]
    return float(fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID])


@torch.no_grad()
def measured(part: Evaluator, **networks: nn.Module) -> dict[str, float]:
    """What it measures of the data that it looks at, as a run would show them."""
    part.setup()
    part.reset()
    shown = part.looks_at()
    assert shown is not None
    data = shown.dataset.build()
    keys = part.names_at(Port.READ)
    chosen = [data[index % len(data)] for index in range(part.samples or len(data))]
    for number, start in enumerate(range(0, len(chosen), shown.batch_size)):
        torch.manual_seed(number)
        batch = {key: torch.stack([one[key] for one in chosen[start : start + shown.batch_size]]) for key in keys}
        part.add(part(**batch, **networks, network=Critic()))
    return dict(part.compute())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(5):
        image = torch.rand(3, 12, 9, generator=torch.Generator().manual_seed(100 + number))
        write_png((image * 255).byte(), str(tmp_path / f"{number}.png"))
    return tmp_path


def reals(folder: Path) -> Tensor:
    images = [read_image(str(file)) / 255 for file in sorted(folder.iterdir())]
    return torch.stack([interpolate(image[None, :, 1:10], (8, 8), mode="area")[0] for image in images])


def options(**more: Any) -> Any:
    return {"for_": "generator", "network": "critic", "batch_size": 3, **more}


def pairs() -> DatasetChoice:
    return DatasetChoice("pairs", Pairs, {})


def test_style_transfer_is_the_distance_of_images_of_noise_from_a_folder(folder: Path) -> None:
    part = StyleTransfer(**options(batches_per_eval=4, image_size=8, real_fid_path=folder))
    generator = Generator()
    value = measured(part, for_=generator)
    assert [len(some) for some in generator.seen] == [3, 3, 3, 3]  # six with each of two batches of real images
    noise = torch.cat(generator.seen)
    assert noise.shape == (12, 3, 8, 8) and noise.min() >= 0 and noise.max() < 1 and noise.std() > 0.2
    assert value == {"fid": pytest.approx(distance(noise * 0.7, reals(folder)), rel=1e-5)}
    assert "12 generated and 5 real images" in part.protocol()


def test_style_noise_is_normal_and_the_image_is_where_gen_index_says(folder: Path) -> None:
    part = StyleTransfer(
        **options(
            batches_per_eval=20, image_size=8, real_fid_path=folder, noise_type="stylenoise", latent_dim=5, gen_index=1
        )
    )
    generator = Generator()
    value = measured(part, for_=generator)
    noise = torch.cat(generator.seen)
    assert noise.shape == (60, 5) and abs(noise.mean()) < 0.2 and abs(noise.std() - 1) < 0.2
    with torch.no_grad():
        assert value == {"fid": pytest.approx(distance(generator(noise)[1], reals(folder)), rel=1e-4)}


def test_fid_for_structural_nets_compares_what_is_made_of_lq_with_hq() -> None:
    value = measured(FidForStructuralNets(**options(scale=2, dataset=pairs())), for_=Generator())
    samples = [Pairs()[i] for i in range(7)]
    hq, lq = (torch.stack([sample[key] for sample in samples]) for key in ("hq", "lq"))
    assert value == {"fid": pytest.approx(distance(interpolate(lq, scale_factor=2) * 0.7, hq), rel=1e-5)}


def test_sr_fid_takes_the_low_frequencies_of_lq() -> None:
    class Rough(Generator):
        def forward(self, x: Tensor, *more: Tensor) -> Tensor:
            return interpolate(x, scale_factor=2, mode="bilinear") * 0.7 + 0.1

    value = measured(SrFid(**options(scale=2, dataset=pairs())), for_=Rough())
    samples = [Pairs()[i] for i in range(7)]
    hq, lq = (torch.stack([sample[key] for sample in samples]) for key in ("hq", "lq"))
    made = Rough()(lq)
    high = made - interpolate(interpolate(made, scale_factor=0.5, mode="area"), scale_factor=2, mode="nearest")
    expected = distance(interpolate(lq, scale_factor=2, mode="nearest") + high, hq)
    assert value == {"sr_fid": pytest.approx(expected, rel=1e-5)}


def test_sr_style_transfer_adds_details_of_noise_and_an_embedding(folder: Path) -> None:
    part = SrStyleTransfer(**options(image_size=8, scale=2, real_fid_path=folder, embedding_generator="e"))
    generator = Generator()
    value = measured(part, for_=generator, embedding_generator=nn.Identity())
    real = reals(folder)
    small = avg_pool2d(real, 2)
    details = [
        noise * 0.7 + interpolate(some, size=(8, 8)).flip(0)
        for noise, some in zip(generator.seen, small.split(3), strict=True)
    ]
    enlarged = interpolate(small, scale_factor=2, mode="bilinear")
    assert value == {"fid": pytest.approx(distance(torch.cat(details) + enlarged, real), rel=1e-5)}
    fewer = SrStyleTransfer(
        **options(image_size=8, scale=2, real_fid_path=folder, embedding_generator="e", batches_per_eval=1)
    )
    measured(fewer, for_=generator, embedding_generator=nn.Identity())
    assert "3 generated and 3 real images" in fewer.protocol()


@pytest.mark.parametrize("most", [1, 3, 4, 7])
def test_generated_images_are_as_many_as_wanted_however_many_real_ones_there_are(folder: Path, most: int) -> None:
    part = StyleTransfer(**options(batch_size=2, batches_per_eval=most, image_size=8, real_fid_path=folder))
    generator = Generator()
    value = measured(part, for_=generator)
    assert f"{2 * most} generated and 5 real images" in part.protocol()
    assert 2 * most <= sum(map(len, generator.seen)) < 2 * most + 3  # batches
    noise = torch.cat(generator.seen)[: 2 * most]
    assert value == {"fid": pytest.approx(distance(noise * 0.7, reals(folder)), rel=1e-4)}


def test_real_images_are_brought_to_the_range_of_the_generators(folder: Path) -> None:
    part = StyleTransfer(**options(batches_per_eval=2, image_size=8, real_fid_path=folder, range=(-1, 1)))
    generator = Generator()
    value = measured(part, for_=generator)
    expected = distance(torch.cat(generator.seen) * 0.7, reals(folder) * 2 - 1)
    assert value == {"fid": pytest.approx(expected, rel=1e-4)}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: StyleTransfer(batch_size=1, batches_per_eval=1, image_size=8, real_fid_path=Path()),
            "'for' is missing",
        ),
        (
            lambda: SrStyleTransfer(
                **options(
                    image_size=8, scale=2, real_fid_path=Path(), embedding_generator="e", samples=9, batches_per_eval=2
                )
            ),
            "'samples' and 'batches_per_eval' both say",
        ),
        (
            lambda: SrStyleTransfer(**options(image_size=9, scale=2, real_fid_path=Path(), embedding_generator="e")),
            "a multiple of 'scale'; 9 is none of 2",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_what_makes_no_image_or_one_of_another_size_is_named(folder: Path) -> None:
    with pytest.raises(RunError, match=r"sr_fid: 'generator' made .* which is not 4 times as large; change 'scale'"):
        measured(SrFid(**options(scale=4, dataset=pairs())), for_=Generator())
    part = FidForStructuralNets(**options(scale=2, dataset=pairs(), gen_index=1))
    with pytest.raises(RunError, match="'generator' returned no image at gen_index 1"):
        measured(part, for_=Alone())
    with pytest.raises(RunError, match="not a folder"):
        measured(StyleTransfer(**options(batches_per_eval=1, image_size=8, real_fid_path=folder / "x")))


@gradloom.networks.register("test_describing")
class Describing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def features(self, x: Tensor) -> Tensor:
        means: Tensor = self.layer(x).mean((2, 3))
        return means


RUN = """
    name: run
    datasets:
      train: {mode: photos, scale: 2, crop: 16, length: 4, batch_size: 2}
      val: {mode: photos, split: test, scale: 2, crop: 16}
    networks:
      generator: {which_model: RRDBNet, in_nc: 3, out_nc: 3, nf: 4, nb: 1, scale: 2, gc: 2}
      critic: {which_model: test_describing, trainable: false}
    steps:
      generator_step:
        training: generator
        optimizer_params: {lr: 1e-2}
        injectors:
          made: {type: generator, generator: generator, in: lq, out: gen}
        losses:
          pix: {type: pix, criterion: l1, real: hq, fake: gen}
    eval:
      at_start: true
      evaluators:
        now: {type: fid_for_structural_nets, for: generator, batch_size: 2, scale: 2, network: critic, dataset: SMALL}
        mean: {type: fid_for_structural_nets, for: generator.ema, batch_size: 2, scale: 2, network: critic, dataset: SMALL}
    train: {niter: 2, ema_rate: 0.999}
""".replace("SMALL", "{mode: photos, split: test, scale: 2, crop: 16, length: 5}")


def test_a_run_measures_the_network_that_it_is_for(tmp_path: Path) -> None:
    trainer = trainer_of(RUN, f"path.experiments_root={tmp_path}")
    trainer.fit()
    rows = [json.loads(row) for row in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    first, last = [row for row in rows if row["kind"] == "eval"]
    assert first["now/fid"] == first["mean/fid"] > 0
    assert last["now/fid"] != pytest.approx(first["now/fid"], rel=1e-2)
    assert last["mean/fid"] == pytest.approx(first["mean/fid"], rel=1e-2)
    assert "5 generated and 5 real images" in last["protocol"]["now/fid"]


def test_a_generator_that_is_not_there_is_said_once() -> None:
    with pytest.raises(gradloom.OptionsError) as error:
        trainer_of(RUN.replace("for: generator.ema", "for: generater"))
    (fault,) = error.value.faults
    assert "no network is called 'generater'; did you mean 'generator'?" in str(fault)


def test_what_its_own_dataset_does_not_hold_is_said_at_the_evaluator() -> None:
    without = RUN.replace(
        "{mode: photos, split: test, scale: 2, crop: 16, length: 5}", "{mode: random_dataset, hq_shape: [3, 8, 8]}"
    )
    with pytest.raises(gradloom.OptionsError, match=r"evaluators.now.*reads 'lq', which nothing before it writes"):
        trainer_of(without)


def test_what_injectors_make_of_the_validation_set_does_not_stand_for_its_own_data() -> None:
    plan = plan_of(RUN, "eval.injectors.other={type: denormalize, shift: 1, scale: 2, in: hq, out: lq}")
    assert not any(measure.injectors for measure in plan.measures)


def test_a_folder_is_a_dataset_of_the_plan_named_after_its_option(folder: Path, tmp_path: Path) -> None:
    style = "{type: style_transfer, for: generator, network: critic, batch_size: 2, batches_per_eval: 3, image_size: 8, real_fid_path: %s}"
    plan = plan_of(RUN, "eval.evaluators.style=" + style % folder)
    found = plan.datasets["eval.evaluators.style.real_fid_path"]
    assert found.keys == ("hq",) and found.batch_size == 2
    faults = look_ahead(plan_of(RUN, "eval.evaluators.style=" + style % (folder / "none")), torch.device("cpu")).faults
    assert ["real_fid_path" in str(fault) and "not a folder" in str(fault) for fault in faults] == [True]


def test_a_dataset_that_is_not_there_is_named() -> None:
    with pytest.raises(RunError, match="there is no 'imagefoldr'"):
        DatasetChoice.of("imagefoldr", paths=Path())
