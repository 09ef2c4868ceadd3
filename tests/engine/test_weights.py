"""Weights that networks start from, in the formats of the field."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gradloom.engine.saving.weights import Weights, fill, read_weights, write_weights
from gradloom.errors import RunError
from making import GAN, MLP, trainer_of, weights


@pytest.mark.parametrize("wrap", ["plain", "params", "params_ema", "state_dict", "module", "safetensors"])
def test_the_formats_of_the_field_are_read(tmp_path: Path, wrap: str) -> None:
    expected = weights(MLP(4, 2))
    file = tmp_path / ("w.safetensors" if wrap == "safetensors" else "w.pth")
    if wrap == "safetensors":
        save_file(expected, file)
    else:
        content = {"plain": expected, "module": {f"module.{key}": value for key, value in expected.items()}}.get(
            wrap, {wrap: expected, "epoch": 3}
        )
        torch.save(content, file)
    trainer = trainer_of(GAN, f"path.pretrain_model_generator={file}")
    assert all(torch.equal(value, expected[key]) for key, value in weights(trainer.networks["generator"]).items())
    assert all(torch.equal(value, expected[key]) for key, value in weights(trainer.emas["generator"]).items())


def test_an_average_beside_the_weights_is_taken(tmp_path: Path) -> None:
    live, average = weights(MLP(4, 2)), weights(MLP(4, 2))
    torch.save(live, tmp_path / "w.pth")
    torch.save(average, tmp_path / "w_ema.pth")
    trainer = trainer_of(GAN, f"path.pretrain_model_generator={tmp_path / 'w.pth'}")
    assert torch.equal(trainer.networks["generator"].state_dict()["0.weight"], live["0.weight"])
    assert torch.equal(trainer.emas["generator"].state_dict()["0.weight"], average["0.weight"])


def test_a_prefix_chooses_a_part_of_a_file(tmp_path: Path) -> None:
    expected = weights(MLP(4, 2))
    torch.save(
        {**{f"inner.{key}": value for key, value in expected.items()}, "other": torch.ones(1)}, tmp_path / "w.pth"
    )
    options = f"path={{pretrain_model_generator: {tmp_path / 'w.pth'}, pretrain_base_path_generator: inner.}}"
    trainer = trainer_of(GAN, options)
    assert torch.equal(trainer.networks["generator"].state_dict()["2.bias"], expected["2.bias"])


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


def test_written_weights_say_what_builds_the_network(tmp_path: Path) -> None:
    from safetensors import safe_open

    network = MLP(4, 2)
    write_weights(Weights(weights(network), "test_mlp", {"inputs": 4, "outputs": 2}), tmp_path / "w.safetensors")
    assert all(
        torch.equal(value, weights(network)[key]) for key, value in read_weights(tmp_path / "w.safetensors").items()
    )
    with safe_open(tmp_path / "w.safetensors", "pt") as opened:
        assert opened.metadata() == {"which_model": "test_mlp", "options": '{"inputs": 4, "outputs": 2}'}
