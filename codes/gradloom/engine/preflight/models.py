"""Build the networks of a plan without their weights, and see whether the files they start from fit."""

from dataclasses import dataclass, field

from torch import Tensor, nn

from gradloom.engine.averages import Average
from gradloom.engine.learning import freeze_marked
from gradloom.engine.norms import share_statistics
from gradloom.engine.preflight.findings import Findings, doubtful
from gradloom.engine.preflight.samples import META
from gradloom.engine.preflight.words import authors_line, in_plain_words
from gradloom.engine.recomputing import recompute
from gradloom.engine.saving.weights import start_average_from, start_from
from gradloom.engine.sharding import refuse_second_gradients
from gradloom.engine.taking_part import TakingPart
from gradloom.errors import RunError
from gradloom.plan.plan import Network, Plan


@dataclass
class Models:
    """The networks that could be built, and the averages of those that have one."""

    networks: dict[str, nn.Module] = field(default_factory=dict)
    averages: dict[str, Average] = field(default_factory=dict)

    @property
    def known(self) -> dict[str, nn.Module]:
        """By the names that ports use."""
        return {**self.networks, **{f"{name}.ema": average.network for name, average in self.averages.items()}}


@dataclass
class _Company:
    """So many processes that hold the same, which has no values."""

    processes: int

    def rows(self, row: Tensor) -> Tensor:
        return row.expand(self.processes, -1)


def build(plan: Plan, findings: Findings, processes: int) -> Models:
    """Build every network that can be built, noting what is wrong with the others and with pretrained weights."""
    models, blocks, trained = Models(), 0, {name for step in plan.steps for name in step.trains}
    for name, network in plan.networks.items():
        module = _built(network, findings)
        if module is None:
            continue
        blocks += _recomputed(network, module, findings)
        if network.sync_batchnorm:
            try:
                module = share_statistics(module, _Company(processes))
            except ValueError as error:
                findings.fault(network.sync_batchnorm.fault(str(error)))
        _check_taking_part(network, module, findings)
        freeze_marked(module)
        models.networks[name] = module if network.trainable else module.eval().requires_grad_(False)
        averaged = name in trained and network.ema
        if averaged:
            models.averages[name] = Average(module, plan.sections.train.ema_rate)
        if network.spread:
            refuse_second_gradients(module, network.spread.fault)
        if network.starts:
            _check_weights(network, models, plan.sections.path.strict_load, findings)
    root = plan.document.root
    if plan.sections.checkpointing_enabled and not blocks and root and not findings.faults:
        what = "no network has blocks in a row that could be computed anew; remove it"
        findings.fault(root.fields["checkpointing_enabled"].fault(what))
    return models


def _recomputed(network: Network, module: nn.Module, findings: Findings) -> int:
    try:
        return recompute(network, module)
    except Exception as error:  # whatever a network's own method raises
        findings.error(error, network.recipe.node.fault, _in_line(error))
        return 0


def _built(network: Network, findings: Findings) -> nn.Module | None:
    """Build without memory; one whose constructor looks at values is built for real and then stripped of them."""
    try:
        try:
            with META:
                made: nn.Module = network.recipe.build()
        except Exception as error:  # whatever a constructor raises
            if not doubtful(error):
                raise
            made = network.recipe.build()
        return made.to(META)
    except Exception as error:
        message = f"{network.which_model} cannot be built: {in_plain_words(error)}{_in_line(error)}"
        findings.fault(network.recipe.node.fault(message))
        return None


def _in_line(error: Exception) -> str:
    line = authors_line(error)
    return f" (in {line})" if line else ""


def _check_taking_part(network: Network, module: nn.Module, findings: Findings) -> None:
    """See that methods that the trainer will call take what they will be given."""
    try:
        TakingPart({network.name: module})
    except RunError as error:
        findings.fault(network.recipe.node.fault(str(error).removeprefix(f"networks.{network.name}: ")))
    except Exception as error:  # whatever a property of its raises
        findings.error(error, network.recipe.node.fault, _in_line(error))


def _check_weights(network: Network, models: Models, strict: bool, findings: Findings) -> None:
    """See that the files are there and match, and an average too where one stands beside."""
    for pretrained in network.starts:
        try:
            start_from(models.networks[network.name], pretrained, strict, "meta")
            if pretrained is network.pretrained and network.name in models.averages:
                start_average_from(models.averages[network.name].network, pretrained, strict, "meta")
        except RunError as error:
            findings.fault(error.fault or pretrained.node.fault(str(error)))


def num_parameters(module: nn.Module) -> int:
    """How many numbers a network learns, or could."""
    return sum(parameter.numel() for parameter in module.parameters())


def num_trained(module: nn.Module) -> int:
    """How many numbers of a network are not frozen."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
