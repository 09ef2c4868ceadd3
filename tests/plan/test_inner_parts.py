"""A part may be an option of another part, a network or dataset one of whatever takes options."""

import pickle
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gradloom
from gradloom.config.node import grown
from gradloom.config.schedules import Linear
from gradloom.engine.calls import Bound
from gradloom.errors import Fault, Mark
from gradloom.parts import DatasetChoice, Injector, Inner, Loss, NetworkChoice
from gradloom.plan.drawing import listing
from making import GAN, gan_batch, plan_of, trainer_of


class OfRows(Loss, type="test_of_rows"):
    """A loss of the first rows alone."""

    part: Loss
    rows: int

    def forward(self, part: Inner) -> Any:
        return part(lambda value: value[: self.rows])


class Twice(Injector, type="test_twice"):
    """What an injector makes of twice its input, or of its input where there is none."""

    part: Injector | None = None

    def forward(self, part: Inner | None) -> Any:
        return part and part(lambda value: 2 * value)


@gradloom.networks.register("test_around")
class Around(nn.Module):
    """A network around another."""

    def __init__(self, subnet: NetworkChoice, gain: float = 1.0) -> None:
        super().__init__()
        self.subnet, self.gain = subnet.build(), gain

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * self.subnet(x)


NESTED = GAN.replace(
    "pix: {type: pix, criterion: l2, real: hq, fake: drawn, weight: 0.1}",
    "pix: {type: test_of_rows, rows: 2, weight: 0.1, part: {type: pix, criterion: l2, real: hq, fake: drawn}}",
)
BATCH = gan_batch(6)


def faults(text: str) -> list[str]:
    with pytest.raises(gradloom.OptionsError) as caught:
        plan_of(text)
    return [f"{fault.path}: {fault.message}" for fault in caught.value.faults]


def test_a_part_within_sees_what_the_one_around_it_lets_it() -> None:
    trainer = trainer_of(NESTED)
    metrics = trainer.train_step(BATCH, keep=["drawn"])
    drawn = trainer.states[0].state["drawn"]
    torch.testing.assert_close(metrics["generator_step/pix"], (drawn[:2] - BATCH["hq"][:2]).square().mean())


def test_what_it_reads_and_writes_counts_as_the_outer_ones() -> None:
    inner = Twice(part=gradloom.Injector.registry.find("direct")(in_="a", out="b"))  # type: ignore[misc]
    assert (inner.reads(), inner.writes()) == (("a",), ("b",))
    assert [type(part) for part in inner.whole()] == [Twice, type(inner.part)]


def test_parts_are_nested_at_any_depth() -> None:
    inner = "{type: test_twice, part: {type: direct, in: z, out: more}}"
    more = f"more: {{type: test_twice, part: {inner}}}"
    plan = plan_of(GAN.replace("injectors:", f"injectors:\n          {more}", 1))
    state = {"z": torch.ones(1)}
    Bound(plan.steps[0].injectors[0], {}).inject(state)
    assert state["more"].item() == 4


def test_a_copy_has_a_part_of_its_own() -> None:
    pix = Loss.registry.find("pix")
    assert pix is not None
    part = OfRows(part=pix(real="a", fake="b", criterion="l1"), rows=1)
    for twin in (deepcopy(part), pickle.loads(pickle.dumps(part))):
        assert twin.part is not part.part
        assert twin.reads() == part.reads() == ("a", "b")


def test_schedules_within_are_followed() -> None:
    noisy = Injector.registry.find("add_noise")
    assert noisy is not None
    part = Twice(part=noisy(in_="a", out="b", scale=Linear(from_=0, to=1, end=4)))
    assert part.scheduled
    part.advance(1, 10)
    assert part.part is not None and part.part.scale == 0.25  # type: ignore[attr-defined]


def test_an_optional_part_may_be_absent() -> None:
    assert Twice().part is None


def test_faults_stand_at_the_lines_of_the_part_within() -> None:
    broken = NESTED.replace("criterion: l2, real: hq", "criterion: l7, reel: hq")
    found = faults(broken)
    assert found[0].startswith("steps.generator_step.losses.pix.part.criterion: expected one of l1, l2")
    assert found[1].startswith("steps.generator_step.losses.pix.part.reel: unknown option; did you mean 'real'")


def test_what_is_said_of_a_key_stands_where_the_part_within_names_it() -> None:
    call = plan_of(NESTED).steps[1].losses[0]
    assert call.fault("why", "drawn").path == "steps.generator_step.losses.pix.part.fake"


def test_gates_and_weights_belong_to_the_part_around() -> None:
    found = faults(NESTED.replace("criterion: l2", "criterion: l2, weight: 2"))
    assert found == ["steps.generator_step.losses.pix.part.weight: this belongs to the part around it; write it there"]


def test_what_is_no_mapping_or_no_type_is_refused() -> None:
    part = "part: {type: pix, criterion: l2, real: hq, fake: drawn}"
    assert faults(NESTED.replace(part, "part: pix"))[0].endswith(
        "expected a loss, by its type and options, got str 'pix'"
    )
    assert faults(NESTED.replace("type: pix", "type: pux"))[0].endswith(
        "losses.pix.part.type: no loss is called 'pux'; did you mean 'pix'?"
    )


def test_the_listing_shows_it() -> None:
    assert "test_of_rows(part=pix(real=hq, fake=drawn, criterion=l2), rows=2)" in listing(plan_of(NESTED))


def test_a_network_within_a_network() -> None:
    around = "{which_model: test_around, gain: 2, subnet: {which_model: test_mlp, kwargs: {inputs: 4, outputs: 2}}}"
    text = GAN.replace("{which_model: test_mlp, inputs: 4, outputs: 2}", around)
    trainer = trainer_of(text)
    assert next(name for name, _ in trainer.networks["generator"].named_parameters()) == "subnet.0.weight"
    found = faults(text.replace("outputs: 2}}}", "output: 2}}}"))
    assert found[0].startswith("networks.generator.subnet.kwargs.output: unknown option; did you mean 'outputs'")


def test_a_dataset_within_is_an_imagefolder_unless_it_says_its_mode() -> None:
    found: list[Fault] = []
    mark = Mark("x.yml", 1, 1)
    drawn = DatasetChoice.from_node(grown({"mode": "random_dataset", "hq_shape": [3, 4, 4]}, mark), found)
    folder = DatasetChoice.from_node(grown({"paths": ["a"], "scale": 2, "target_size": 8}, mark), found)
    assert found == [] and (drawn.name, folder.name) == ("random_dataset", "imagefolder")
