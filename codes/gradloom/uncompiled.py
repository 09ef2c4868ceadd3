"""torch's optimizers as they are, without what keeps torch's compiler off them."""

import inspect

from torch.optim import Optimizer


class Uncompiled(Optimizer):
    """Put before an optimizer's class, this spares a process that compiles nothing the loading of the compiler.

    torch guards these four methods against being compiled, and each guard loads `torch._dynamo` when it is first
    called, which takes a second and 80 MB. Nothing here compiles what an optimizer does.
    """

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)


def uncompiled(cls: type[Optimizer]) -> type[Optimizer]:
    """An optimizer's class that does not load the compiler when one is made."""
    return cls if issubclass(cls, Uncompiled) else type(cls.__name__, (Uncompiled, cls), {})
