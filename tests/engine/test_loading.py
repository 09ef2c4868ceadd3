"""Networks built again from the weight files of runs, by nothing but what stands in them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import gradloom
from gradloom.config.binding import bind
from gradloom.config.node import grown
from gradloom.engine.saving.weights import Weights, write_weights
from gradloom.errors import Mark, RunError
from gradloom.parts import networks
from making import GAN, gan_batch, trainer_of

FLOW = {"K": 1, "L": 2, "split": {"enable": True}, "augmentation": {"noiseQuant": False}}
OPTIONS: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {
    "dcgan_generator": ({"image_size": 16, "nf": 4, "channels": 1}, (2, 100)),
    "dcgan_discriminator": ({"image_size": 16, "nf": 4, "norm": "none"}, (2, 3, 16, 16)),
    "RRDBNet": ({"in_nc": 3, "out_nc": 3, "nf": 4, "nb": 1, "scale": 2, "gc": 2}, (2, 3, 8, 8)),
    "discriminator_vgg_128_gn": ({"in_nc": 3, "nf": 8, "image_size": 32}, (2, 3, 32, 32)),
    "dvae": ({"hidden_dim": 4, "codebook_dim": 4, "num_tokens": 5, "num_layers": 2}, (2, 3, 8, 8)),
    "rrdb_latent_wrapper": (
        {"in_nc": 3, "out_nc": 3, "nf": 8, "nb": 1, "gc": 2, "blocks_for_latent": [0]},
        (2, 3, 8, 8),
    ),
    "rrdb_srflow": ({"in_nc": 3, "out_nc": 3, "nf": 4, "nb": 1, "gc": 2, "scale": 2}, (2, 3, 8, 8)),
    "srflow": ({"nf": 4, "nb": 1, "gc": 2, "scale": 2, "flow": FLOW}, ((2, 3, 8, 8), (2, 3, 4, 4))),
    "vqvae": ({"channel": 4, "n_res_channel": 2, "codebook_dim": 4, "codebook_size": 5}, (2, 3, 8, 8)),
    "small_classifier": ({"image_size": 16, "width": 4}, (2, 3, 16, 16)),
}
"""Options and the shape of the input, or of each, for every network of the package."""


@dataclass(frozen=True, kw_only=True)
class Inner:
    """Options within options."""

    sizes: tuple[int, ...]
    file: Path | None = None


@gradloom.networks.register("test_particular")
class Particular(nn.Module):
    """Takes options of all kinds, and keeps them."""

    def __init__(
        self, pair: tuple[int, float], file: Path, inner: Inner, in_: str, rest: dict[str, Any], none: int | None = 3
    ) -> None:
        super().__init__()
        self.taken = (pair, file, inner, in_, rest, none)
        self.layer = nn.Linear(pair[0], 1)

    def forward(self, x: Tensor) -> Tensor:
        scaled: Tensor = self.layer(x)
        return scaled


def built(which_model: str, options: Mapping[str, Any]) -> nn.Module:
    make = networks.find(which_model)
    assert make is not None
    arguments = bind(make, grown(dict(options), Mark("x.yml", 1, 1)), faults := [])
    assert not faults
    return make(**arguments)


def same(ours: nn.Module, theirs: nn.Module) -> bool:
    mine, other = ours.state_dict(), theirs.state_dict()
    return mine.keys() == other.keys() and all(torch.equal(mine[key], other[key]) for key in mine)


def test_every_network_of_the_package_has_its_options_here() -> None:
    ours = {name for name in networks.discover() if networks.classes[name].__module__.startswith("gradloom.")}
    assert ours == OPTIONS.keys()


@pytest.mark.parametrize("which_model", OPTIONS)
def test_a_written_network_comes_back_as_it_was(tmp_path: Path, which_model: str) -> None:
    options, shape = OPTIONS[which_model]
    network = built(which_model, options)
    shapes = shape if isinstance(shape[0], tuple) else (shape,)
    network(*map(torch.randn, shapes))  # moves the means of norms
    write_weights(Weights(network.state_dict(), which_model, options), tmp_path / "n.safetensors")
    again = gradloom.load_network(tmp_path / "n.safetensors")
    x = [*map(torch.randn, shapes)]
    assert type(again) is type(network)
    assert not any(module.training for module in again.modules())
    assert same(again, network)
    torch.testing.assert_close(again(*x), network.eval()(*x), rtol=0, atol=0)


def test_the_files_of_a_run_are_enough(tmp_path: Path) -> None:
    trainer = trainer_of(GAN, "networks.generator={which_model: test_mlp, kwargs: {inputs: 4, outputs: 2, width: 5}}")
    for seed in range(3):
        trainer.train_step(gan_batch(seed=seed))
    folder = trainer.save(tmp_path)
    for file, network in {
        "generator": trainer.networks["generator"],
        "generator_ema": trainer.emas["generator"],
        "discriminator": trainer.networks["discriminator"],
    }.items():
        assert same(gradloom.load_network(str(folder / f"{file}.safetensors")), network)


def test_options_of_all_kinds_survive_the_file(tmp_path: Path) -> None:
    options = """{which_model: test_particular, pair: [3, 1e-3], file: ~/x.bin, in: "a'b ü \\U0001F600",
                  inner: {sizes: [1, 2], file: y}, rest: {deep: [{a: null}, 1.5, yes], "1": .inf}, none: null}"""
    trainer = trainer_of(GAN, f"networks.more={options}")
    network = trainer.networks["more"]
    assert network.taken[:4] == (
        (3, 1e-3),
        Path("~/x.bin").expanduser(),
        Inner(sizes=(1, 2), file=Path("y")),
        "a'b ü 😀",
    )
    again = gradloom.load_network(trainer.save(tmp_path) / "more.safetensors")
    assert again.taken == network.taken
    assert list(map(type, again.taken)) == list(map(type, network.taken))  # type: ignore[call-overload]


def test_loading_leaves_random_numbers_alone(tmp_path: Path) -> None:
    options = {"inputs": 2, "outputs": 1}
    write_weights(Weights(built("test_mlp", options).state_dict(), "test_mlp", options), tmp_path / "n.safetensors")
    before = torch.get_rng_state()
    gradloom.load_network(tmp_path / "n.safetensors")
    assert torch.equal(torch.get_rng_state(), before)


def test_options_that_a_file_could_not_give_back_are_not_written(tmp_path: Path) -> None:
    tensors = built("test_mlp", {"inputs": 2, "outputs": 1}).state_dict()
    with pytest.raises(TypeError, match="is nothing that options hold"):
        write_weights(Weights(tensors, "test_mlp", {"inputs": object()}), tmp_path / "n.safetensors")
    assert not (tmp_path / "n.safetensors").exists()
    options = {"inputs": 2, "outputs": 1, "width": (Path("a"),)}
    write_weights(Weights(tensors, "test_mlp", options), tmp_path / "n.safetensors")


def written(folder: Path, metadata: Mapping[str, str] | None, inputs: int = 2) -> Path:
    file = folder / "n.safetensors"
    save_file(built("test_mlp", {"inputs": inputs, "outputs": 1}).state_dict(), file, metadata and dict(metadata))
    return file


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "n.safetensors was not written by a run of Gradloom: its metadata do not say 'which_model' and 'options'"),
        ({"format": "pt"}, "its metadata do not say 'which_model' and 'options'"),
        ({"which_model": "test_mlp", "options": "{"}, "its metadata do not say 'which_model' and 'options'"),
        ({"which_model": "test_mlp", "options": "[1]"}, "its 'options' are no mapping"),
        ({"which_model": "test_mpl", "options": "{}"}, "no network is called 'test_mpl'; did you mean 'test_mlp'?; if it "
         "is not Gradloom's own, import the module that registers it first, such as the run's plugins"),
        ({"which_model": "torch.nn.Linear", "options": "{}"}, "no network is called 'torch.nn.Linear'"),
        ({"which_model": "test_mlp", "options": '{"inputs": 2, "outputs": "one"}'},
         "outputs: expected a whole number, got str 'one'"),
        ({"which_model": "test_mlp", "options": '{"inputs": 2, "outputs": 1, "depth": 3}'}, "depth: unknown option"),
        ({"which_model": "test_mlp", "options": '{"inputs": 2, "outputs": -1}'}, "test_mlp cannot be built"),
        ({"which_model": "test_mlp", "options": '{"inputs": 3, "outputs": 1}'},
         "n.safetensors: the weights do not match the network: 0.weight is (16, 2), not (16, 3)"),
    ],
)  # fmt: skip
def test_what_cannot_be_loaded_is_refused_with_the_reason(
    tmp_path: Path, metadata: Mapping[str, str] | None, message: str
) -> None:
    file = written(tmp_path, metadata)
    with pytest.raises(RunError) as refused:
        gradloom.load_network(file)
    assert message in str(refused.value)
    assert str(file) in str(refused.value)


def test_a_file_that_is_not_there_or_no_safetensors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no file"):
        gradloom.load_network(tmp_path / "n.safetensors")
    torch.save({"a": torch.ones(1)}, tmp_path / "n.pth")
    with pytest.raises(RunError, match=r"n\.pth is not a safetensors file"):
        gradloom.load_network(tmp_path / "n.pth")


def test_a_secret_option_is_not_in_the_file(tmp_path: Path) -> None:
    @gradloom.networks.register("test_paid")
    class Paid(nn.Linear):
        """Asks for a token."""

        def __init__(self, api_token: str) -> None:
            super().__init__(1, 1)
            self.api_token = api_token

    trainer = trainer_of(GAN, "networks.paid={which_model: test_paid, api_token: unheard-of}")
    assert trainer.networks["paid"].api_token == "unheard-of"
    file = trainer.save(tmp_path) / "paid.safetensors"
    assert b"unheard-of" not in file.read_bytes()
    assert json.dumps({"api_token": "***"}).encode() in file.read_bytes().replace(b'\\"', b'"')
    assert gradloom.load_network(file).api_token == "***"
