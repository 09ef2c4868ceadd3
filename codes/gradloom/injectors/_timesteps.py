"""Which timesteps a diffusion's training looks at, and what each then counts."""

import torch
from torch import Tensor, nn

HISTORY = 10  # losses remembered of each timestep
UNIFORM = 0.001  # the share of draws that do not go by them


class Uniform(nn.Module):
    """Every timestep is as likely as any other."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def draw(self, size: int, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Timesteps (B,), and what their losses are to be multiplied by, if anything."""
        return torch.randint(self.count, (size,), device=device), None

    def learn(self, t: Tensor, losses: Tensor) -> None:
        """Take note of the losses (B,) of timesteps."""

    def warmed_up(self) -> Tensor:
        """Whether the draws go by all that they should, 1 or 0."""
        return torch.ones(())


class BySecondMoment(Uniform):
    """A timestep is as likely as the root of the mean square of its last losses is large, once all have enough of them.

    Nichol and Dhariwal 2021 (arXiv 2102.09672), section 3.3. Losses are divided by how much likelier their timestep was
    than among equals, so that their expectation stays; the ancestor left that out. Each process goes by the losses
    it has seen itself, of which a checkpoint holds the mean, and resumed processes have their own again.
    """

    history: Tensor
    seen: Tensor

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.register_buffer("history", torch.zeros(count, HISTORY))
        self.register_buffer("seen", torch.zeros(count, dtype=torch.int64))

    def draw(self, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Timesteps (B,), and what their losses are to be multiplied by."""
        probabilities = self.probabilities()
        t = torch.multinomial(probabilities, size, replacement=True)
        return t, 1 / (self.count * probabilities[t])

    def probabilities(self) -> Tensor:
        """How likely each timestep is, (T,)."""
        moments = self.history.square().mean(1).sqrt()
        equal = torch.full_like(moments, 1 / self.count)
        weighed = (1 - UNIFORM) * moments / moments.sum() + UNIFORM * equal
        return torch.where(self.warmed_up().bool() & (moments.sum() > 0), weighed, equal)

    @torch.no_grad()
    def learn(self, t: Tensor, losses: Tensor) -> None:
        """Put losses (B,) in the place of the oldest of their timesteps; what is not finite is passed over."""
        earlier = (t[:, None] == t[None, :]).tril(-1).sum(1)  # in this batch, of the same timestep
        slots = (self.seen[t] + earlier) % HISTORY
        losses = losses.to(self.history.dtype)
        self.history[t, slots] = torch.where(losses.isfinite(), losses, self.history[t, slots])
        self.seen.index_add_(0, t, torch.ones_like(t))

    def warmed_up(self) -> Tensor:
        """Whether every timestep has had enough losses, 1 or 0."""
        return (self.seen >= HISTORY).all().float()


def spread(size: int, count: int, over: int, start: int, device: torch.device) -> Tensor:
    """Timesteps (B,) of the samples from `start` on, of which `over` together pass all timesteps evenly."""
    places = torch.arange(start, start + size, device=device) % over
    return places * count // over
