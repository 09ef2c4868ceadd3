"""Blocks that are computed anew in backward passes: nothing changes but the memory."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.utils.parametrizations import spectral_norm

import gradloom
from gradloom.errors import RunError
from looking import lines, looked
from making import gan_batch, plan_of, trainer_of, weights

WIDTH = 6


class Block(nn.Module):
    """All that remembers or draws something: batch norm, spectral norm, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = spectral_norm(nn.Linear(WIDTH, WIDTH)), nn.BatchNorm1d(WIDTH)
        self.drop, self.last = nn.Dropout(0.3), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.last(self.drop(torch.tanh(self.norm(self.first(x)))))


@gradloom.networks.register("test_blocks")
class Blocks(nn.Module):
    """A row of blocks, a list of them and one that stands by itself."""

    def __init__(self, inputs: int, outputs: int, code: bool = False) -> None:
        super().__init__()
        self.into = nn.Linear(inputs, WIDTH)
        self.row = nn.Sequential(Block(), Block(), nn.Tanh())
        self.levels = nn.ModuleList([nn.ModuleList([Block(), nn.Tanh()]), nn.ModuleList([Block()])])
        self.single, self.out = Block(), nn.Linear(WIDTH, outputs)
        self.code = nn.Parameter(torch.linspace(-1, 1, WIDTH)) if code else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) to (B, outputs)."""
        features = self.into(x) if self.code is None else x[:, :1].detach() * self.code.detach() + x.mean()
        features = self.row(features)
        for level in self.levels:
            assert isinstance(level, nn.ModuleList)
            for layer in level:
                features = layer(features)
        made: Tensor = self.out(self.single(features))
        return made


BLOCKS = """
    name: blocks
    networks:
      generator: {which_model: test_blocks, inputs: 4, outputs: 2}
      discriminator: {which_model: test_blocks, inputs: 2, outputs: 1}
    steps:
      discriminator_step:
        training: discriminator
        optimizer: adam
        optimizer_params: {lr: 1e-2}
        injectors:
          fake: {type: generator, generator: generator, in: z, out: fake, grad: false}
        losses:
          gan: {type: discriminator_gan, gan_type: gan, real: hq, fake: fake}
      generator_step:
        training: generator
        optimizer: adam
        optimizer_params: {lr: 1e-2}
        injectors:
          drawn: {type: generator, generator: generator, in: z, out: drawn}
        losses:
          pix: {type: pix, criterion: l2, real: hq, fake: drawn, weight: 0.1}
          gan: {type: generator_gan, gan_type: gan, discriminator: discriminator, fake: drawn}
    train: {niter: 100, ema_rate: 0.9}
"""


@pytest.fixture
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def both(*overrides: str) -> tuple[gradloom.Trainer, gradloom.Trainer]:
    return trainer_of(BLOCKS, *overrides), trainer_of(BLOCKS, "checkpointing_enabled=true", *overrides)


def batch(seed: int, size: int = 8) -> dict[str, Tensor]:
    return {key: value.to(torch.get_default_dtype()) for key, value in gan_batch(size, seed).items()}


@pytest.mark.parametrize("overrides", [[], ["train.mega_batch_factor=3"], ["precision=bf16"]])
@pytest.mark.usefixtures("float64")
def test_training_is_the_same_to_the_bit(overrides: list[str]) -> None:
    """With batch norm's, spectral norm's and dropout's numbers, frozen networks and averages."""
    plain, checkpointed = both(*overrides)
    for trainer in (plain, checkpointed):
        trainer.world.seed_apart(5)
        trainer.metrics = [trainer.train_step(batch(seed)) for seed in range(4)]  # type: ignore[attr-defined]
    assert plain.metrics == checkpointed.metrics  # type: ignore[attr-defined]
    for ours, theirs in ((plain.networks, checkpointed.networks), (plain.emas, checkpointed.emas)):
        for name, network in ours.items():
            expected = network.state_dict()
            assert expected.keys() == theirs[name].state_dict().keys()
            for key, value in theirs[name].state_dict().items():
                assert torch.equal(value, expected[key]), (name, key)
    assert int(checkpointed.networks["generator"].get_buffer("row.0.norm.num_batches_tracked")) > 0


@pytest.mark.usefixtures("float64")
def test_gradients_of_gradients_are_the_same_to_the_bit() -> None:
    plain, checkpointed = (trainer.networks["discriminator"] for trainer in both())
    x = batch(0)["hq"]
    gradients = []
    for network in (plain, checkpointed):
        torch.manual_seed(3)
        inputs = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(network(inputs).sum(), inputs, create_graph=True)
        penalty = (slope.square().sum(1).sqrt() - 1).square().mean() + network(x).mean()
        penalty.backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*gradients, strict=True))
    assert weights(plain).keys() == weights(checkpointed).keys()
    assert all(torch.equal(value, weights(plain)[key]) for key, value in weights(checkpointed).items())


def test_blocks_learn_from_inputs_that_need_no_gradient() -> None:
    """The ancestor's reentrant checkpoints gave such blocks no gradient at all (its VQ-VAE's encoders never learned)."""
    row = (
        "networks.generator={which_model: test_blocks, inputs: 4, outputs: 2, code: true, checkpointing_enabled: true}"
    )
    trainer = trainer_of(BLOCKS, row)
    before = weights(trainer.networks["generator"])
    trainer.train_step(gan_batch())
    after = trainer.networks["generator"].state_dict()
    assert not torch.equal(after["row.0.last.weight"], before["row.0.last.weight"])


def remembered(network: nn.Module, x: Tensor) -> int:
    """The bytes that a forward pass leaves for the backward pass, beside weights."""
    own = {parameter.untyped_storage().data_ptr() for parameter in (*network.parameters(), x)}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        made = network(x)
    assert made.requires_grad
    return sum(kept.values())


RRDB = "{which_model: RRDBNet, in_nc: 3, out_nc: 3, nf: 8, nb: 6, gc: 4, scale: 2%s}"
ENLARGE = """
    name: enlarge
    networks: {generator: %s}
    steps:
      generator_step:
        training: generator
        optimizer_params: {lr: 1e-3}
        injectors:
          enlarged: {type: generator, generator: generator, in: lq, out: gen}
        losses:
          pix: {type: pix, criterion: l1, real: hq, fake: gen}
    datasets: {train: {mode: test_samples, kind: image, batch_size: 8}}
    train: {niter: 10}
"""


def test_less_is_remembered_and_foreseen() -> None:
    plain, checkpointed = ENLARGE % RRDB % "", ENLARGE % RRDB % ", checkpointing_enabled: true"
    x = torch.rand(2, 3, 8, 8)
    ours, theirs = (remembered(trainer_of(text).networks["generator"], x) for text in (checkpointed, plain))
    assert ours < 0.5 * theirs
    activations = [looked(text).memory.activations for text in (checkpointed, plain)]  # type: ignore[union-attr]
    assert activations[0] < 0.6 * activations[1]


def test_an_average_computes_with_its_own_weights() -> None:
    trainer = trainer_of(BLOCKS, "checkpointing_enabled=true")
    before = weights(trainer.emas["generator"])
    trainer.train_step(gan_batch())
    average = trainer.emas["generator"]
    x = gan_batch()["z"].requires_grad_()
    plain = Blocks(4, 2).eval()
    plain.load_state_dict(average.state_dict())
    assert torch.equal(average(x), plain(x))
    assert any(not torch.equal(value, before[key]) for key, value in average.state_dict().items())


def test_a_network_may_have_its_own_word() -> None:
    def said(*overrides: str) -> list[str]:
        return trainer_of(BLOCKS, *overrides).origins

    told = "generator: 4 blocks to compute anew in backward passes"
    assert said() == []
    assert said("networks.generator.checkpointing_enabled=true") == [told]
    assert said("checkpointing_enabled=true", "networks.discriminator.checkpointing_enabled=false") == [told]
    assert said("checkpointing_enabled=true")[1].startswith("discriminator: 4")
    listing = gradloom.plan.drawing.listing(plan_of(BLOCKS, "networks.generator.checkpointing_enabled=true"))
    assert "outputs=2)  # checkpointed" in listing


FLAT = "{which_model: dcgan_generator, image_size: 8, latent_dim: 4}"


@pytest.mark.parametrize(
    ("network", "overrides", "message"),
    [
        (
            FLAT,
            ["networks.generator.checkpointing_enabled=true"],
            "networks.generator.checkpointing_enabled: dcgan_generator has no blocks in a row that could be computed "
            "anew; remove it",
        ),
        (
            FLAT,
            ["checkpointing_enabled=true"],
            "checkpointing_enabled: no network has blocks in a row that could be computed anew; remove it",
        ),
    ],
)
def test_what_would_change_nothing_is_refused(network: str, overrides: list[str], message: str) -> None:
    assert message in lines(looked(ENLARGE % network, *overrides).faults)


def test_a_trainer_refuses_it_too() -> None:
    with pytest.raises(RunError, match="dcgan_generator has no blocks in a row"):
        trainer_of(ENLARGE % FLAT, "networks.generator.checkpointing_enabled=true")


def test_what_a_block_does_in_place_to_its_input_is_found() -> None:
    network = nn.Sequential(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 3)))
    planned = plan_of(BLOCKS, "networks.generator.checkpointing_enabled=true").networks["generator"]
    from gradloom.engine.recomputing import recompute

    assert recompute(planned, network) == 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        network(torch.randn(2, 3, requires_grad=True) * 1).sum().backward()


def test_weight_files_do_not_know_of_it(tmp_path: Path) -> None:
    trainer = trainer_of(BLOCKS, "checkpointing_enabled=true")
    folder = trainer.save(tmp_path)
    plain = trainer_of(BLOCKS)
    plain.resume(folder)
    made = gradloom.load_network(folder / "generator.safetensors")
    assert torch.equal(made(gan_batch()["z"]), plain.networks["generator"].eval()(gan_batch()["z"]))
