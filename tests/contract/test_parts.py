"""What holds for every injector and loss; a new part needs one line in EXAMPLES, and nothing else here."""

import copy
import inspect
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, get_type_hints

import pytest
import torch
from torch import Tensor, nn

from gradloom.config.schedules import Linear
from gradloom.injectors._diffusion import DiffusionArgs
from gradloom.injectors._noise_schedules import BetaSchedule
from gradloom.parts import Injector, Inner, Loss, Part, Port, keys_in


def images() -> Tensor:
    return torch.rand(4, 3, 6, 6, requires_grad=True)


def noise_levels() -> Tensor:
    return torch.rand(4, 1, 1, 1)


def film() -> Tensor:
    return torch.rand(2, 3, 3, 6, 6, requires_grad=True)


def small_film() -> Tensor:
    return torch.rand(2, 3, 3, 3, 3)


def flow() -> nn.Module:
    return nn.Sequential(nn.Flatten(1, 2), nn.Conv2d(6, 2, 1))


def film_critic() -> nn.Module:
    return nn.Sequential(nn.Conv2d(18, 4, 3), nn.Tanh())


def logits() -> Tensor:
    return torch.randn(4, 5, requires_grad=True)


def labels() -> Tensor:
    return torch.randint(5, (4,))


def video() -> Tensor:
    return torch.rand(2, 3, 3, 6, 6, requires_grad=True)


def tiles() -> Tensor:
    return torch.rand(2, 5, 3, 4, 4, requires_grad=True)


def numbers() -> dict[str, Any]:
    return {"count": 3, "share": torch.rand(4)}


def sizes() -> list[int]:
    return [2, 2, 3, 6, 6]


def order() -> list[int]:
    return [1, 0, 2, 3, 4]


def moves() -> Tensor:
    return torch.randn(4, 2, 6, 6, requires_grad=True)


def statistics() -> Path:
    """A file with a shift and a scale for each of three channels."""
    torch.save((torch.rand(3), 1 + torch.rand(3)), file := Path(mkdtemp()) / "statistics.pt")
    return file


def critic() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 1))


def enlarger() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 12, 1), nn.PixelShuffle(2))


def network() -> nn.Module:
    return nn.Conv2d(3, 3, 1)


def recurrent() -> nn.Module:
    return nn.Bilinear(6, 6, 6)


class Denoiser(nn.Module):
    """A diffusion's network with a learned variance."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor, timesteps: Tensor, low_res: Tensor) -> Tensor:
        output: Tensor = self.layer(torch.cat([x, low_res], 1) * timesteps[:, None, None, None] / 50)
        return output


STYLES: list[Tensor] = []


def styles() -> Tensor:
    STYLES[:] = [torch.randn(4, 2, 9, requires_grad=True)]
    return STYLES[0]


def images_of_styles() -> Tensor:
    return STYLES[0].prod(1).view(4, 1, 3, 3) * torch.randn(3, 1, 1)


@dataclass
class Case:
    """A part made from an example, and what stands at its ports; all that it draws is float64 unless said otherwise."""

    cls: type[Part]
    example: Mapping[str, Any]

    def part(self, **more: Any) -> Any:
        writes = {field: field for field in self.writes()}
        settable = {field.name for field in fields(self.cls) if field.init}
        named = {option: _named(option, value) for option, value in self.example.items() if option in settable}
        part = self.cls(**writes | named | more)
        part.setup()
        return part

    def writes(self) -> list[str]:
        return [field for field, port in self.cls.ports.items() if port is Port.WRITE]

    def written(self, part: Part) -> Iterator[str]:
        """The keys at its Write ports, then those of a part within it."""
        yield from (key for field in self.writes() for key in keys_in(getattr(part, field)))
        for case, inner in zip(_within(self), part.inner(), strict=True):
            yield from case.written(inner)

    def values(self, dtype: torch.dtype = torch.float64) -> dict[str, Any]:
        torch.manual_seed(1)
        torch.set_default_dtype(dtype)
        given = [field for field, port in self.cls.ports.items() if port is not Port.WRITE]
        try:
            return {field: _value(self.example.get(field), dtype) for field in given}
        finally:
            torch.set_default_dtype(torch.float32)


def _named(name: str, value: Any) -> Any:
    """Put names where an example makes values, and parts where it has examples of parts within."""
    if isinstance(value, Case):
        return value.part()
    if isinstance(value, dict):
        return {key: _named(f"{name}_{key}", item) for key, item in value.items()}
    if isinstance(value, list) and all(map(callable, value)):
        return tuple(f"{name}_{index}" for index in range(len(value)))
    return name if callable(value) else value


def _value(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, Case):
        part, values = value.part(), value.values(dtype)
        nets = {field: values.pop(field) for field, port in value.cls.ports.items() if port is Port.NET}
        return Inner(part, nets, values)
    if isinstance(value, list):
        return tuple(_value(item, dtype) for item in value)
    if isinstance(value, dict):
        return {key: _value(item, dtype) for key, item in value.items()}
    return value() if callable(value) else value


def _within(case: Case) -> list[Case]:
    """The examples of parts within a part, in order."""
    options = [value.values() if isinstance(value, dict) else [value] for value in case.example.values()]
    return [value for values in options for value in values if isinstance(value, Case)]


def inner(kind: type[Part], name: str, **example: Any) -> Case:
    cls = kind.registry.find(name)
    assert isinstance(cls, type)
    return Case(cls, example)


CHAIN = {
    "beta_schedule": BetaSchedule("linear", 50),
    "diffusion_args": DiffusionArgs("epsilon", "learned_range"),
    "generator": Denoiser,
    "model_input_keys": {"low_res": images},
}
TAUGHT = CHAIN | {"in_": images, "extra_model_output_keys": ()}
PAIR = {"real": images, "fake": images, "criterion": "l2"}
GAN = {"discriminator": critic, "real": images, "fake": images}
TECO = {
    "discriminator": film_critic, "image_flow_generator": flow, "real": film, "fake": film, "lr_inputs": small_film,
    "scale": 2, "margin": 1,
}  # fmt: skip

EXAMPLES: dict[type[Part], dict[str, list[dict[str, Any]]]] = {
    Injector: {
        "add_noise": [{"in_": images, "scale": 0.1}, {"in_": images, "scale": noise_levels, "mode": "uniform"}],
        "batch_rotate": [{"in_": images}],
        "concatenate": [{"in_": [images, images], "dim": 1}],
        "constant": [{"like": images, "constant_type": "zeroes"}],
        "decompose_dimension": [{"in_": images, "dim": 1}],
        "denormalize": [{"in_": images, "shift": 0.5, "scale": 2.0}],
        "direct": [{"in_": images}],
        "discriminator": [{"in_": images, "discriminator": critic}],
        "for_each": [
            {"part": inner(Injector, "generator", in_=video, generator=network)},
            {"part": inner(Injector, "sr_diffs", mode="produce_diff", lq=video, hq=video), "aslist": True},
        ],
        "frequency_bin_normalize": [{"in_": images, "stats_file": statistics()}],
        "gaussian_diffusion": [
            TAUGHT | {"sampler_type": "uniform", "deterministic_timesteps_every": 2},
            TAUGHT | {"sampler_type": "loss-second-moment", "channel_balancer_proportion": 0.5},
        ],
        "gaussian_diffusion_inference": [
            CHAIN | {"output_scale_factor": 1, "respaced_timestep_spacing": 5, "undo_n1_to_1": True},
            CHAIN | {"output_scale_factor": 1, "respaced_timestep_spacing": 5, "use_ddim": True, "ddim_eta": 0.5},
        ],
        "gaussian_sample": [{"mean": images, "log_variance": images}],
        "generator": [{"in_": images, "generator": network}],
        "grey": [{"in_": images}],
        "image_patch": [{"in_": images, "patch_size": 4}],
        "indices_extractor": [{"in_": images, "out": ("out", "second")}],
        "interpolate": [{"in_": images, "scale_factor": 0.5, "mode": "area"}],
        "margin_removal": [{"in_": images, "margin": 1}, {"in_": images, "margin": 2, "random_shift_max": 2}],
        "mix_and_label": [{"in_": [images, images]}],
        "multi_frame_combiner": [
            {"mode": "combine", "in_": video, "in_hq": video, "flow": flow},
            {"mode": "synthesize", "in_": images, "in_hq": images, "dim": 3, "out_flow_sample": None},
        ],
        "noise": [{"in_": images, "shape": [8]}],
        "normalize": [{"in_": images, "shift": 0.5, "scale": 2.0}],
        "pad": [{"in_": images, "multiple": 4}],
        "progressive_zoom_generator": [
            {"generator": network, "in_": tiles, "hq": tiles, "depth": 2, "num_branches": 3}
            | {"feed_gen_output_into_input": False},
        ],
        "random_crop": [{"in_": images, "dim_in": 6, "dim_out": 4}],
        "random_shift": [{"in_": images, "max_shift": 2}],
        "recompose_dimension": [{"in_": images, "reverse_shape": sizes, "reverse_permute": order}],
        "scheduled_scalar": [{"scheduler": 0.5}],
        "squeeze": [{"in_": images, "dim": 1}],
        "sr_diffs": [
            {"mode": "produce_diff", "lq": images, "hq": images},
            {"mode": "recombine", "lq": images, "hq": images, "diff": None},
        ],
        "step_interleave": [
            {
                "subinjectors": {
                    "one": inner(Injector, "grey", in_=images),
                    "other": inner(Injector, "add_noise", in_=images, scale=noise_levels),
                }
            }
        ],
        "stereoscopic_flow2image": [{"in_": moves}],
        "stereoscopic_resample": [{"in_": images, "flowfield": moves}],
        "stylegan2_noise": [{"in_": images, "latent_dim": 8}],
        "teco_flow_adjustment": [{"flow_network": flow, "flow_target": images, "flowed": images}],
        "teco_recurrent_generated_sequence_injector": [
            {"generator": recurrent, "flow_network": flow, "in_": [video, video], "recurrent_index": 1, "scale": 1.0}
            | {"out_batched": ("out_batched",), "hq": video},
        ],
    },
    Loss: {
        "cross_entropy": [{"logits": logits, "labels": labels}],
        "direct": [
            {"key": images, "metrics": None},
            {"key": images, "metrics": numbers},
        ],
        "discriminator_gan": [
            GAN | {"structure": None, "gan_type": "ragan", "noise": 0.1},
            GAN | {"structure": None, "gan_type": "wgan", "gradient_penalty": True},
            GAN | {"structure": None, "gan_type": "max_spread", "min_loss": 0.1},
        ],
        "distillation": [{"teacher": logits, "student": logits}],
        "feature": [PAIR | {"weights": "random", "layer": 2}],
        "for_element": [{"part": inner(Loss, "pix", real=film, fake=film, criterion="l2"), "index": -1}],
        "gaussian_kl": [{"mean": images, "log_variance": images}],
        "generator_gan": [
            GAN | {"gan_type": "ragan", "noise": 0.1},
            GAN | {"gan_type": "hinge"},
            GAN | {"gan_type": "gan", "min_loss": 0.1},
        ],
        "geometric": [PAIR | {"generator": network, "fake": [images]}],
        "interpreted_feature": [PAIR | {"weights": "random", "layer": 2, "criterion": "cosine"}],
        "pix": [PAIR | {"report_metrics": True}, PAIR | {"criterion": "cosine"}],
        "recurrent": [{"part": inner(Loss, "pix", real=film, fake=film, criterion="l2", report_metrics=True)}],
        "recursive": [PAIR | {"generator": enlarger, "fake": [images], "recursive_depth": 2, "downsample_factor": 0.5}],
        "sr_pix": [{"real": images, "fake": images, "scale": 2}],
        "teco_gan": [
            TECO | {"gan_type": "ragan", "for_generator": True},
            TECO | {"gan_type": "gan", "for_generator": False, "gradient_penalty": True, "noise": 0.1},
        ],
        "teco_pingpong": [{"fake": film}],
        "translational": [
            PAIR | {"generator": network, "fake": [images], "corners": [images] * 3, "patch_size": 6, "overlap": 4}
        ],
        "gradient_penalty": [
            {"at": images, "to_": None, "discriminator": critic},
            {"at": images, "to_": images, "discriminator": critic},
        ],
        "stylegan2_divergence": [
            GAN | {"gradient_penalty_frequency": 4},
            {"discriminator": critic, "fake": images, "gen_loss": True, "logistic": True, "noise": 0.1},
        ],
        "stylegan2_pathlen": [{"w_styles": styles, "gen": images_of_styles, "generator": network}],
    },
}
"""Options for each type, by their names in Python. In the place of a key or a network stands what makes its value, in
that of a part `inner(...)`."""


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors among values, and the parameters and buffers of networks."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, nn.Module):
        yield from value.state_dict(keep_vars=True).values()
    elif isinstance(value, Mapping):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, Inner):
        yield from _tensors((value.networks, value.values))
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from _tensors(inner)


PARTS = [
    pytest.param(cls, id=f"{kind.registry.kind}-{name}")
    for kind in EXAMPLES
    for name in kind.registry.discover()
    if isinstance(cls := kind.registry.find(name), type) and cls.__module__.startswith("gradloom.")
]


def _cases(*kinds: type[Part]) -> list[Any]:
    return [
        pytest.param(Case(cls, example), id=f"{kind.registry.kind}-{name}-{index}")
        for kind in kinds
        for name, variants in EXAMPLES[kind].items()
        if isinstance(cls := kind.registry.find(name), type)
        for index, example in enumerate(variants)
    ]


CASES = _cases(*EXAMPLES)


@pytest.mark.parametrize("cls", PARTS)
def test_has_an_example(cls: type[Part]) -> None:
    kind = next(kind for kind in EXAMPLES if issubclass(cls, kind))
    assert cls.type_name in EXAMPLES[kind], (
        f"the {kind.registry.kind} {cls.type_name!r} has no example: "
        f"add its options, and what makes the values at its ports, to EXAMPLES in {__file__}"
    )


@pytest.mark.parametrize("cls", PARTS)
def test_lives_in_the_module_that_its_type_names(cls: type[Part]) -> None:
    assert cls.__module__.rpartition(".")[2] == cls.type_name


@pytest.mark.parametrize("cls", PARTS)
def test_is_documented_in_a_sentence(cls: type[Part]) -> None:
    written = inspect.cleandoc(vars(cls)["__doc__"])
    assert not written.startswith(f"{cls.__name__}("), "the docstring is the one that dataclass makes up"
    assert written.partition("\n\n")[0].endswith(".")


@pytest.mark.parametrize("cls", PARTS)
def test_annotates_every_option(cls: type[Part]) -> None:
    hints = get_type_hints(cls, include_extras=True)
    for parent in cls.__mro__:
        if issubclass(parent, Part):
            options = {name for name, value in vars(parent).items() if _is_option(name, value)}
            assert options <= hints.keys()
    assert all(hints[field.name] is not Any for field in fields(cls))


def _is_option(name: str, value: Any) -> bool:
    return not name.startswith("_") and not callable(value) and not isinstance(value, property | classmethod)


@pytest.mark.parametrize("cls", PARTS)
def test_no_option_is_named_like_a_method(cls: type[Part]) -> None:
    assert not {field.name for field in fields(cls)} & {*dir(nn.Module())}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda part: pickle.loads(pickle.dumps(part))], ids=["copy", "pickle"]
)
def test_survives_copying(case: Case, copied: Any) -> None:
    part = case.part(every=3)
    twin = copied(part)
    assert _options(twin) == _options(part)
    assert (twin.reads(), twin.writes(), twin.networks()) == (part.reads(), part.writes(), part.networks())


def _options(part: Part) -> dict[str, Any]:
    values = {field.name: getattr(part, field.name) for field in fields(part)}
    inner = {name: tuple(map(_options, part.parts_at(name).values())) for name in part.ports}
    return {name: inner.get(name) or value for name, value in values.items()}


@pytest.mark.parametrize("case", _cases(Loss))
def test_a_copy_keeps_its_schedules(case: Case) -> None:
    twin = copy.deepcopy(case.part(weight=Linear(from_=0, to=1, end=4)))
    twin.advance(1, iterations_per_epoch=10)
    assert twin.weight == 0.25


@pytest.mark.parametrize("case", CASES)
def test_names_exactly_the_keys_at_its_ports(case: Case) -> None:
    part = case.part()
    assert len(part.reads()) == _count_keys(case)
    assert part.writes() == tuple(dict.fromkeys(case.written(part)))


def _count_keys(case: Case) -> int:
    """How many keys an example gives a part to read, and the parts within it."""
    at_ports = [case.example.get(field) for field, port in case.cls.ports.items() if port is Port.READ]
    keys = [value for given in at_ports for value in _several(given) if callable(value)]
    return len(keys) + sum(map(_count_keys, _within(case)))


def _several(given: Any) -> list[Any]:
    return [*given.values()] if isinstance(given, dict) else given if isinstance(given, list) else [given]


@pytest.mark.parametrize("case", CASES)
def test_repeats_itself_under_a_seed(case: Case) -> None:
    results = []
    for _ in range(2):
        part, values = case.part(), case.values()
        torch.manual_seed(2)
        results.append(part(**values))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


@pytest.mark.parametrize("case", CASES)
def test_leaves_what_it_is_given_as_it_was(case: Case) -> None:
    values, before = case.values(), case.values()
    result = case.part()(**values)
    for tensor in _tensors(result):
        if tensor.requires_grad:
            tensor.sum().backward(retain_graph=True)
    for given, kept in zip(_tensors(values), _tensors(before), strict=True):
        torch.testing.assert_close(given, kept, rtol=0, atol=0)
        assert given.requires_grad == kept.requires_grad


@pytest.mark.parametrize("case", CASES)
def test_has_finite_gradients(case: Case) -> None:
    values = case.values()
    for tensor in _tensors(case.part()(**values)):
        if tensor.requires_grad:
            tensor.sum().backward(retain_graph=True)
    for tensor in _tensors(values):
        assert tensor.grad is None or tensor.grad.isfinite().all()


@pytest.mark.parametrize("case", CASES)
def test_keeps_double_precision(case: Case) -> None:
    for tensor in _tensors(case.part()(**case.values())):
        assert tensor.dtype == torch.float64 or not tensor.is_floating_point()


@pytest.mark.parametrize("case", _cases(Loss))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_loss_is_a_scalar_in_full_precision_with_detached_metrics(case: Case, dtype: torch.dtype) -> None:
    values = case.values(torch.float32)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        result = case.part()(**values)
    loss, metrics = result if isinstance(result, tuple) else (result, {})
    assert loss.shape == () and loss.dtype == torch.float32 and loss.requires_grad
    for metric in metrics.values():
        assert metric.shape == () and metric.dtype == torch.float32 and not metric.requires_grad
