"""Weights that networks start from, in the formats of the field."""

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gradloom.engine.saving.reading import _unwrap, read_weights
from gradloom.engine.saving.weights import Weights, fill, write_weights
from gradloom.errors import RunError
from making import GAN, MLP, trainer_of, weights


def wrapped(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The same weights as this and that program saves them."""
    parallel = {f"module.{key}": value for key, value in tensors.items()}
    other = {key: torch.zeros_like(value) for key, value in tensors.items()}
    return {
        "plain": tensors,
        "ordered": OrderedDict(tensors),
        "params": {"params": tensors},
        "params_ema": {"params": other, "params_ema": tensors},
        "state_dict": {"state_dict": tensors, "epoch": 3},
        "parallel": parallel,
        "parallel in a wrapper": {"state_dict": parallel, "epoch": 3, "optimizer": {"lr": 0.1}},
        "wrapped twice": {"state_dict": {"params": parallel}},
        "compiled": {f"_orig_mod.{key}": value for key, value in tensors.items()},
        "compiled and parallel": {f"module._orig_mod.{key}": value for key, value in tensors.items()},
        "parallel and compiled": {f"_orig_mod.module.{key}": value for key, value in tensors.items()},
        "parameters": {key: nn.Parameter(value) for key, value in tensors.items()},
        "in other layouts": {
            key: value.T.contiguous().T if value.dim() == 2 else value for key, value in tensors.items()
        },
        "parts of larger ones": {key: torch.stack([value, value])[1] for key, value in tensors.items()},
    }


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("wrap", wrapped({}))
def test_the_formats_of_the_field_are_read(tmp_path: Path, wrap: str, old: bool) -> None:
    expected = weights(MLP(4, 2))
    file = tmp_path / "w.pth"
    torch.save(wrapped(expected)[wrap], file, _use_new_zipfile_serialization=not old)
    assert_starts_with(expected, file)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_widths_are_those_of_the_network(tmp_path: Path, dtype: torch.dtype) -> None:
    given = {key: value.to(dtype) for key, value in weights(MLP(4, 2)).items()}
    torch.save(given, tmp_path / "w.pth")
    assert_starts_with({key: value.float() for key, value in given.items()}, tmp_path / "w.pth")


def test_safetensors_are_read(tmp_path: Path) -> None:
    expected = weights(MLP(4, 2))
    save_file(expected, tmp_path / "w.safetensors")
    assert_starts_with(expected, tmp_path / "w.safetensors")


def assert_starts_with(expected: dict[str, Tensor], file: Path) -> None:
    trainer = trainer_of(GAN, f"path.pretrain_model_generator={file}")
    for network in (trainer.networks["generator"], trainer.emas["generator"]):
        found = weights(network)
        assert found.keys() == expected.keys()
        assert all(torch.equal(value, expected[key]) and value.dtype == torch.float32 for key, value in found.items())


def test_a_name_that_holds_the_word_module_keeps_it() -> None:
    """The ancestor dropped it wherever it stood."""
    assert [*_unwrap({"a.module.b": torch.ones(1), "module.c": torch.ones(1)}, Path("w"))] == ["a.module.b", "module.c"]
    assert [*_unwrap({"module.module.b": torch.ones(1)}, Path("w"))] == ["b"]
    assert [*_unwrap({"module.a.module.b": torch.ones(1)}, Path("w"))] == ["a.module.b"]


def test_what_holds_no_weights_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "iter": 100, "schedulers": [], "optimizers": []}, tmp_path / "w.pth")
    with pytest.raises(
        RunError, match=r"w\.pth holds no weights of one network; expected names with tensors, got 'epoch', 'iter'"
    ):
        trainer_of(GAN, f"path.pretrain_model_generator={tmp_path / 'w.pth'}")


def test_an_average_beside_the_weights_is_taken(tmp_path: Path) -> None:
    live, average = weights(MLP(4, 2)), weights(MLP(4, 2))
    torch.save(live, tmp_path / "w.pth")
    torch.save(average, tmp_path / "w_ema.pth")
    trainer = trainer_of(GAN, f"path.pretrain_model_generator={tmp_path / 'w.pth'}")
    assert torch.equal(trainer.networks["generator"].state_dict()["0.weight"], live["0.weight"])
    assert torch.equal(trainer.emas["generator"].state_dict()["0.weight"], average["0.weight"])


def test_an_average_that_does_not_match_is_named(tmp_path: Path) -> None:
    torch.save(weights(MLP(4, 2)), tmp_path / "w.pth")
    torch.save({**weights(MLP(4, 2)), "extra": torch.ones(1)}, tmp_path / "w_ema.pth")
    start = f"pretrain_model_generator: {tmp_path / 'w.pth'}"
    with pytest.raises(RunError, match=r"w_ema\.pth beside it: the weights do not match the network: extra is unknown"):
        trainer_of(GAN, f"path={{{start}}}")
    lenient = trainer_of(GAN, f"path={{strict_load: false, {start}}}")
    assert lenient.origins[1] == f"generator: average from {tmp_path / 'w_ema.pth'}, but for extra is unknown"


@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        ("inner.{}", "inner."),
        ("inner.{}", "inner"),
        ("module.inner.{}", "inner."),
        ("module.inner.{}", "module.inner."),
        ("deep.inner.{}", "deep.inner."),
    ],
)
def test_a_prefix_chooses_a_part_of_a_file_and_of_the_average_beside_it(
    tmp_path: Path, names: str, prefix: str
) -> None:
    ends = weights(MLP(4, 2)), weights(MLP(4, 2))
    for name, expected in zip(("w.pth", "w_ema.pth"), ends, strict=True):
        others = {names.replace("inner", "other").format("x"): torch.ones(1)}
        torch.save({**{names.format(key): value for key, value in expected.items()}, **others}, tmp_path / name)
    options = f"path={{pretrain_model_generator: {tmp_path / 'w.pth'}, pretrain_base_path_generator: {prefix}}}"
    trainer = trainer_of(GAN, options)
    for network, expected in zip((trainer.networks["generator"], trainer.emas["generator"]), ends, strict=True):
        assert all(torch.equal(value, expected[key]) for key, value in weights(network).items())


def test_a_prefix_that_no_name_has_is_refused(tmp_path: Path) -> None:
    torch.save({f"generator.{key}": value for key, value in weights(MLP(4, 2)).items()}, tmp_path / "w.pth")
    options = f"path={{pretrain_model_generator: {tmp_path / 'w.pth'}, pretrain_base_path_generator: generater}}"
    with pytest.raises(RunError, match=r"no name in it begins with 'generater'; did you mean 'generator'\?"):
        trainer_of(GAN, options)


def test_each_network_is_loaded_whatever_the_others_start_from(tmp_path: Path) -> None:
    """The ancestor stopped at the first network without a file."""
    expected = weights(MLP(2, 1))
    torch.save(expected, tmp_path / "w.pth")
    trainer = trainer_of(GAN, f"path.pretrain_model_discriminator={tmp_path / 'w.pth'}")
    assert all(torch.equal(value, expected[key]) for key, value in weights(trainer.networks["discriminator"]).items())


def test_the_state_of_a_run_of_the_ancestor_is_refused_unread(tmp_path: Path) -> None:
    marker = Path("/tmp/gradloom_was_here")
    marker.unlink(missing_ok=True)
    (tmp_path / "100.state").write_bytes(pickle.dumps(Evil()))
    message = r"100\.state is the state of a run of DL-Art-School, whose optimizers are not taken over; start from its"
    with pytest.raises(RunError, match=message):
        trainer_of(GAN).resume(tmp_path / "100.state")
    with pytest.raises(RunError, match=message):
        trainer_of(GAN, f"path={{experiments_root: {tmp_path}, resume_state: {tmp_path / '100.state'}}}").fit()
    assert not marker.exists()


def test_what_does_not_match_is_refused_by_name(tmp_path: Path) -> None:
    tensors = weights(MLP(4, 3))
    del tensors["0.bias"]
    torch.save({**tensors, "extra": torch.ones(1)}, tmp_path / "w.pth")
    with pytest.raises(RunError) as refused:
        trainer_of(GAN, f"path.pretrain_model_generator={tmp_path / 'w.pth'}")
    message = str(refused.value)
    assert "0.bias is missing" in message
    assert "extra is unknown" in message
    assert "2.weight is (3, 16), not (2, 16)" in message
    lenient = trainer_of(GAN, f"path={{strict_load: false, pretrain_model_generator: {tmp_path / 'w.pth'}}}")
    assert torch.equal(lenient.networks["generator"].state_dict()["0.weight"], tensors["0.weight"])
    assert "0.bias is missing" in lenient.origins[0]


def test_nothing_that_matches_is_refused_even_when_lenient() -> None:
    with pytest.raises(RunError, match="none of the weights matches"):
        fill(MLP(4, 2), {"a": torch.ones(1)}, strict=False)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("/tmp/gradloom_was_here"),))  # type: ignore[return-value]


@pytest.mark.parametrize("content", [b"", b"nonsense", pickle.dumps(Evil()), pickle.dumps([1, 2])])
def test_a_file_that_is_no_weights_is_refused_and_runs_nothing(tmp_path: Path, content: bytes) -> None:
    marker = Path("/tmp/gradloom_was_here")
    marker.unlink(missing_ok=True)
    for name in ("w.pth", "w.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RunError, match="w\\."):
            read_weights(tmp_path / name)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", r"w\.pth is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "is a pointer of Git LFS to the weights"),
        (b"<!DOCTYPE html>", "cannot be read as weights: it is no file of tensors, or a damaged one"),
        (b"hello", "cannot be read as weights: it is no file of tensors, or a damaged one"),
        (pickle.dumps(Evil(), protocol=2), r"holds more than tensors: \S+; save a state_dict\(\) alone"),
    ],
    ids=["nothing", "pointer", "page", "words", "program"],
)
def test_why_a_file_is_no_weights_is_told_in_a_line(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(RunError, match=why) as refused:
        read_weights(tmp_path / "w.pth")
    assert "weights_only" not in str(refused.value)


def test_a_wrapper_that_holds_itself_and_names_that_are_none_are_refused(tmp_path: Path) -> None:
    within: dict[str, Any] = {}
    within["params"] = within
    for content in (within, {1: torch.ones(1)}, {"a": torch.ones(2).to_sparse()}):
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(RunError, match="holds no weights of one network"):
            read_weights(tmp_path / "w.pth")


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is a folder without weights; name a file"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    ("kind", "words"), [(torch.int8, "integers"), (torch.bool, "integers"), (torch.complex64, "complex numbers")]
)
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_numbers_of_another_kind_do_not_match(tmp_path: Path, kind: torch.dtype, words: str, name: str) -> None:
    given = {key: value.to(kind) for key, value in weights(MLP(4, 2)).items()}
    save_file(given, tmp_path / name) if name == "w.safetensors" else torch.save(given, tmp_path / name)
    with pytest.raises(RunError, match=rf"0\.weight is of {words}, not of fractions"):
        fill(MLP(4, 2), read_weights(tmp_path / name))
    with pytest.raises(RunError, match=r"0\.weight is of \w+( numbers)?, not of fractions"):
        fill(MLP(4, 2).to("meta"), read_weights(tmp_path / name, "meta"))


def test_a_network_may_hold_complex_numbers() -> None:
    network = nn.Module()
    network.register_buffer("rows", torch.zeros(2, dtype=torch.complex64))
    assert fill(network, {"rows": torch.ones(2, dtype=torch.complex64)}) == []
    with pytest.raises(RunError, match="rows is of fractions, not of complex numbers"):
        fill(network, {"rows": torch.ones(2)})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_not_started_from(tmp_path: Path, value: float) -> None:
    tensors = weights(MLP(4, 2))
    tensors["2.bias"][0] = value
    torch.save(tensors, tmp_path / "w.pth")
    with pytest.raises(RunError, match=r"2\.bias: some of these weights are no finite numbers"):
        trainer_of(GAN, f"path.pretrain_model_generator={tmp_path / 'w.pth'}")


def test_written_weights_say_what_builds_the_network(tmp_path: Path) -> None:
    from safetensors import safe_open

    network = MLP(4, 2)
    write_weights(Weights(weights(network), "test_mlp", {"inputs": 4, "outputs": 2}), tmp_path / "w.safetensors")
    assert all(
        torch.equal(value, weights(network)[key]) for key, value in read_weights(tmp_path / "w.safetensors").items()
    )
    with safe_open(tmp_path / "w.safetensors", "pt") as opened:
        assert opened.metadata() == {"which_model": "test_mlp", "options": '{"inputs": 4, "outputs": 2}'}
