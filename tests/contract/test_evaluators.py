"""What holds for every evaluator; a new one needs one line in EXAMPLES, and nothing else here."""

import copy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import sklearn
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from evaluators.pointed import Describing, write_pairs
from gradloom.datasets.random_dataset import RandomDataset
from gradloom.engine.measuring import carried
from gradloom.injectors._diffusion import DiffusionArgs
from gradloom.injectors._noise_schedules import BetaSchedule
from gradloom.injectors.gaussian_diffusion_inference import GaussianDiffusionInference
from gradloom.parts import DatasetChoice, Evaluator, Inner, Port

SIZES = (4, 4, 3, 4, 1)  # of batches


class Critic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 5, 12)

    def features(self, x: Tensor) -> Tensor:
        return self.layer(x).flatten(1)


def images(size: int) -> Tensor:
    return torch.rand(size, 3, 12, 12)


def logits(size: int) -> Tensor:
    return torch.randn(size, 5)


def labels(size: int) -> Tensor:
    return torch.randint(5, (size,))


class Painter(nn.Module):
    def forward(self, x: Tensor, timesteps: Tensor, low_res: Tensor) -> Tensor:
        return low_res.sin()


def drawing(size: int) -> Inner:
    return Inner(DRAWING, {"generator": Painter()}, {"model_input_keys": {"low_res": images(size)}})


DRAWING = GaussianDiffusionInference(
    generator="g", out="out", model_input_keys={"low_res": "lq"}, output_scale_factor=1, respaced_timestep_spacing=2,
    use_ddim=True, noise_type="zero", beta_schedule=BetaSchedule("cosine", 4),
    diffusion_args=DiffusionArgs("start_x", "fixed_small"),
)  # fmt: skip
DRAWING.setup()
CRITIC = Critic()


def small(size: int) -> Tensor:
    return torch.rand(size, 3, 6, 6)


def points(size: int) -> Tensor:
    return torch.rand(size, 2, 2)


def pictures(size: int) -> Tensor:
    return torch.rand(size, 2, 3, 16, 16)


def marks(size: int) -> Tensor:
    return torch.arange(size) % 2 == 0


def critic(size: int) -> nn.Module:
    return CRITIC


class Enlarging(nn.Conv2d):
    def __init__(self) -> None:
        super().__init__(3, 3, 1)

    def forward(self, x: Tensor, *more: Tensor) -> Tensor:
        return interpolate(super().forward(x), size=(12, 12))


ENLARGING = Enlarging()


def network(size: int) -> nn.Module:
    return ENLARGING


class Several(nn.Conv2d):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, super().forward(x)


SEVERAL = Several(3, 3, 1)


def several(size: int) -> nn.Module:
    return SEVERAL


class Flow(nn.Conv2d):
    def forward(self, x: Tensor, small: Tensor, add_gt_noise: bool) -> tuple[list[Tensor], Tensor]:
        latent: Tensor = super().forward(x)
        return [latent[:, :1], latent], small


FLOW = Flow(3, 3, 1)


def flow(size: int) -> nn.Module:
    return FLOW


IMAGES = Path(sklearn.__file__).parent / "datasets" / "images"
GENERATED = {"for_": network, "network": critic, "batch_size": 2}
FOLDER = GENERATED | {"image_size": 12, "real_fid_path": IMAGES, "hq": images}
SMALL = DatasetChoice("random_dataset", RandomDataset, {"hq_shape": (3, 12, 12), "lq_shape": (3, 6, 6), "length": 3})
PAIRED = {"dataset": SMALL, "hq": images, "lq": small}
ENLARGED = GENERATED | PAIRED | {"scale": 2}
PAIR = {"fake": images, "real": images}

DESCRIBING = Describing()


def describing(size: int) -> nn.Module:
    return DESCRIBING


PLACE = TemporaryDirectory()
POINTS = write_pairs(Path(PLACE.name) / "pairs", [((1, 2), (3, 4)), ((5, 5), (6, 7)), ((0, 0), (1, 1))])

EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "accuracy": [{"logits": logits, "labels": labels}],
    "fid": [PAIR | {"network": critic}],
    "fid_for_structural_nets": [ENLARGED],
    "flow_gaussian_nll": [PAIRED | {"for_": flow, "batch_size": 2}],
    "grid": [{"images_": [images, images], "count": 6}],
    "kid": [PAIR | {"network": critic, "subset_size": 9, "subsets": 4}],
    "mean": [{"value": images}, {"value": images, "batch": labels}],
    "precision_recall": [PAIR | {"network": critic, "neighbourhood": 2}],
    "psnr": [PAIR, PAIR | {"against": images, "per_image": True}],
    "single_point_pair_contrastive_eval": [
        {
            "for_": describing,
            "batch_size": 2,
            "quantity": 3,
            "similar_set_args": POINTS,
            "dissimilar_set_args": POINTS,
            "pair": pictures,
            "points": points,
            "alike": marks,
        }
    ],
    "spread": [{"value": logits}],
    "sr_diffusion_fid": [{"diffusion_params": drawing, "real": images, "network": critic, "fid_batch_size": 3}],
    "sr_fid": [ENLARGED],
    "sr_style_transfer": [FOLDER | {"scale": 2, "embedding_generator": network}],
    "ssim": [PAIR, PAIR | {"against": images, "crop_border": 0}],
    "style_transfer": [FOLDER | {"batches_per_eval": 2, "for_": several, "gen_index": 1}],
}
"""Options for each type, by their names in Python. In the place of a key or a network stands what makes its value."""

TYPES = [
    name for name in Evaluator.registry.discover() if Evaluator.registry.find(name).__module__.startswith("gradloom.")
]
CASES = [
    pytest.param(name, example, id=f"{name}-{index}")
    for name in EXAMPLES
    for index, example in enumerate(EXAMPLES[name])
]


def made(name: str, example: dict[str, Any]) -> Evaluator:
    named = {
        option: tuple(f"{option}_{number}" for number in range(len(value))) if isinstance(value, list)
        else DRAWING if value is drawing else option if callable(value) else value
        for option, value in example.items()
    }  # fmt: skip
    evaluator: Evaluator = Evaluator.registry.find(name)(**named)
    evaluator.setup()
    evaluator.reset()
    return evaluator


def batches(name: str, example: dict[str, Any]) -> list[dict[str, Any]]:
    ports = [field for field, port in Evaluator.registry.find(name).ports.items() if port is not Port.WRITE]
    torch.manual_seed(0)
    return [{port: _value(example.get(port), size) for port in ports} for size in SIZES]


def _value(value: Any, size: int) -> Any:
    return tuple(make(size) for make in value) if isinstance(value, list) else value(size) if value else None


def shown_to(evaluator: Evaluator, batch: dict[str, Any], number: int) -> Any:
    """What an evaluator finds in a batch; what it draws follows from the batch's number, as in a run."""
    torch.manual_seed(number)
    return evaluator(**batch)


def amounts(evaluator: Evaluator) -> tuple[dict[str, float], str, dict[str, list[Any]]]:
    """All that an evaluator says."""
    pictures = {key: value.tolist() for key, value in evaluator.images().items()}
    return dict(evaluator.compute()), evaluator.protocol(), pictures


@pytest.mark.parametrize("name", TYPES)
def test_has_an_example(name: str) -> None:
    assert name in EXAMPLES, f"the evaluator {name!r} has no example: add its options to EXAMPLES in {__file__}"


@torch.no_grad()
@pytest.mark.parametrize("processes", [2, 3, 8])
@pytest.mark.parametrize(("name", "example"), CASES)
def test_several_find_what_one_adds_up(name: str, example: dict[str, Any], processes: int) -> None:
    """As in several processes: each is given some of the batches, the first adds what was found, sent there, in order."""
    alone, shown = made(name, example), batches(name, example)
    for number, batch in enumerate(shown):
        alone.add(shown_to(alone, batch, number))
    several = [made(name, example) for _ in range(processes)]
    assert several[0].adds
    for number, batch in enumerate(shown):
        found = carried(shown_to(several[number % processes], batch, number), torch.device("cpu"), name)
        several[0].add(copy.deepcopy(found))
    assert amounts(several[0]) == amounts(alone)


@torch.no_grad()
@pytest.mark.parametrize(("name", "example"), CASES)
def test_what_was_found_by_a_process_without_a_batch_of_its_own_is_as_if_it_had_not_been(
    name: str, example: dict[str, Any]
) -> None:
    one, shown = made(name, example), batches(name, example)
    for number, batch in enumerate(shown):
        one.add(shown_to(one, batch, number))
    said = amounts(one)
    one(**shown[-1])
    assert amounts(one) == said


@torch.no_grad()
@pytest.mark.parametrize(("name", "example"), CASES)
def test_forgets_at_reset(name: str, example: dict[str, Any]) -> None:
    one, fresh = made(name, example), made(name, example)
    first, *others = batches(name, example)
    one.add(one(**first))
    one.reset()
    for number, batch in enumerate(others):
        one.add(shown_to(one, batch, number))
        fresh.add(shown_to(fresh, batch, number))
    assert amounts(one) == amounts(fresh)
