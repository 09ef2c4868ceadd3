"""Codebooks: vectors are rounded to the nearest of a few, which follow what is rounded to them.

van den Oord et al. 2017 (arXiv 1711.00937), section 3 and appendix A.1.
"""

import torch
from torch import Tensor
from torch.nn.functional import embedding, normalize

from gradloom.networks._full_precision import in_full
from gradloom.parts import InCompany, widen


class Codes(InCompany):
    """Rounds vectors (..., dim) to the nearest of `size` codes; what nearest is, and how codes follow, children say.

    What is rounded while training with gradients is summed up, and codes follow once the optimizer has made its step
    (`learn`), over all micro-batches and processes alike: these end where one would. Sums that are not finite are
    dropped, and so are those of an iteration without a step. With `expiry`, a code that nothing was rounded to in so
    many steps moves to a random vector of the last batch. Computed in float32 under any precision.
    """

    asks_in_passes = False
    counts: Tensor
    recent: Tensor
    sums: Tensor
    samples: Tensor
    codebook_misses: Tensor

    def __init__(self, dim: int, size: int, expiry: int) -> None:
        super().__init__()
        self.size, self.expiry, self.seen = size, expiry, False
        self.register_buffer("counts", torch.zeros(size), persistent=False)
        self.register_buffer("recent", torch.zeros(size), persistent=False)  # the last step's counts
        self.register_buffer("sums", torch.zeros(size, dim), persistent=False)
        if expiry:
            self.register_buffer("samples", torch.zeros(size, dim), persistent=False)
            self.register_buffer("codebook_misses", torch.zeros(size))

    def table(self) -> Tensor:
        """The codes, (size, dim)."""
        raise NotImplementedError

    def compared(self, x: Tensor) -> Tensor:
        """Vectors (n, dim) as they are compared with codes and summed up."""
        return x

    def scores(self, x: Tensor) -> Tensor:
        """How near vectors (n, dim) are to each code, (n, size); more is nearer."""
        raise NotImplementedError

    def follow(self, counts: Tensor, sums: Tensor) -> dict[str, Tensor]:
        """The buffers as they become after a step in which so many vectors (size,) of these sums were rounded."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors (..., dim) to codes, their mean squared distance, and the codes' numbers (...).

        The gradient of codes reaches the vectors as it is (straight-through, equation 2); that of the distance makes
        vectors commit to codes, which do not move by it (third term of equation 3).
        """
        with in_full(x.device):
            x = widen(x)
            flat = self.compared(x.detach().flatten(0, -2))
            numbers = self.scores(flat).argmax(1)
            codes = self.decode(numbers).view(x.shape)
            if self.training and torch.is_grad_enabled() and x.requires_grad:
                self._note(flat, numbers)
            return x + (codes - x).detach(), (codes - x).square().mean(), numbers.view(x.shape[:-1])

    def decode(self, numbers: Tensor) -> Tensor:
        """The codes (..., dim) of numbers (...)."""
        return embedding(numbers, self.table())

    def forget(self) -> None:
        """Drop what was summed up and not learnt."""
        if self.seen:
            self.counts.zero_()
            self.sums.zero_()
            self.seen = False

    @torch.no_grad()
    def learn(self) -> None:
        """Let codes follow what was summed up since the last time, over all processes."""
        if not self.seen:
            return
        total = self.everyones(torch.cat([self.counts[:, None], self.sums], 1))
        sound = total.isfinite().all()
        for name, value in self.follow(total[:, 0], total[:, 1:]).items():
            buffer = self.get_buffer(name)
            buffer.copy_(torch.where(sound, value, buffer))
        if self.expiry:
            self._expire(total[:, 0])
        self.recent.copy_(total[:, 0])
        self.forget()

    def perplexity(self, counts: Tensor) -> Tensor:
        """How many codes are in use: the exponential of the entropy of how often each is."""
        shares = counts / counts.sum().clamp(min=1e-12)
        return torch.exp(-torch.special.xlogy(shares, shares).sum())

    @torch.no_grad()
    def _note(self, flat: Tensor, numbers: Tensor) -> None:
        self.counts.index_add_(0, numbers, flat.new_ones(len(flat)))
        self.sums.index_add_(0, numbers, flat)
        self.seen = True
        if self.expiry:
            self.samples.copy_(flat[torch.randint(len(flat), (self.size,), device=flat.device)])

    def _expire(self, counts: Tensor) -> None:
        """Move codes that were not used for long; of several processes each says where to for its share of them."""
        self.codebook_misses.copy_(torch.where(counts > 0, 0, self.codebook_misses + 1))
        samples = self.samples.nan_to_num()
        if self.company is not None and self.company.processes > 1:
            theirs = torch.arange(self.size, device=samples.device) % self.company.processes != self.company.number
            samples = self.everyones(samples.masked_fill(theirs[:, None], 0))
        expired = self.codebook_misses >= self.expiry
        self.move(expired, samples)
        self.codebook_misses.masked_fill_(expired, 0)

    def move(self, which: Tensor, places: Tensor) -> None:
        """Put codes, those marked in (size,), to places (size, dim)."""
        raise NotImplementedError


class MeanCodes(Codes):
    """Codes that are moving averages of what is rounded to them, by the squared distance (appendix A.1).

    Each starts as the mean of one vector, so that one not used yet stays where it is. In the ancestor it was that of
    none, which threw such codes far away, never to be used.
    """

    embed: Tensor
    cluster_size: Tensor
    embed_avg: Tensor

    def __init__(self, dim: int, size: int, decay: float, eps: float = 1e-5, expiry: int = 0) -> None:
        super().__init__(dim, size, expiry)
        self.decay, self.eps = decay, eps
        embed = torch.randn(dim, size)
        self.register_buffer("embed", embed)
        self.register_buffer("cluster_size", torch.ones(size))
        self.register_buffer("embed_avg", embed.clone())

    def table(self) -> Tensor:
        """The codes, (size, dim)."""
        return self.embed.T

    def scores(self, x: Tensor) -> Tensor:
        """Minus half the squared distances (n, size), but for what all codes have in common."""
        return torch.addmm(-0.5 * self.embed.square().sum(0), x, self.embed)

    def follow(self, counts: Tensor, sums: Tensor) -> dict[str, Tensor]:
        """Codes are sums over counts, both moving averages; counts are smoothed as Laplace has it."""
        cluster_size = self.cluster_size.lerp(counts, 1 - self.decay)
        embed_avg = self.embed_avg.lerp(sums.T, 1 - self.decay)
        total = cluster_size.sum()
        smoothed = (cluster_size + self.eps) / (total + self.size * self.eps) * total
        return {"cluster_size": cluster_size, "embed_avg": embed_avg, "embed": embed_avg / smoothed}

    def move(self, which: Tensor, places: Tensor) -> None:
        """Put codes to places, where they count as if one vector had always been rounded to each."""
        self.embed.copy_(torch.where(which, places.T, self.embed))
        self.embed_avg.copy_(torch.where(which, places.T, self.embed_avg))
        self.cluster_size.masked_fill_(which, 1.0)


class DirectionCodes(Codes):
    """Codes that turn towards what is rounded to them, by their angle (Yu et al. 2021, arXiv 2110.04627)."""

    embed: Tensor

    def __init__(self, dim: int, size: int, decay: float, expiry: int = 0) -> None:
        super().__init__(dim, size, expiry)
        self.decay = decay
        self.register_buffer("embed", normalize(torch.randn(size, dim), dim=1))

    def table(self) -> Tensor:
        """The codes, (size, dim), of length 1 at most."""
        return self.embed

    def compared(self, x: Tensor) -> Tensor:
        """The directions of vectors (n, dim)."""
        return normalize(x, dim=1)

    def scores(self, x: Tensor) -> Tensor:
        """The cosines (n, size) of directions (n, dim) and codes."""
        return x @ normalize(self.embed, dim=1).T

    def follow(self, counts: Tensor, sums: Tensor) -> dict[str, Tensor]:
        """Codes turn towards the mean direction of a step's vectors, where there are any."""
        towards = torch.where(counts[:, None] > 0, normalize(sums, dim=1), normalize(self.embed, dim=1))
        return {"embed": self.embed.lerp(towards, 1 - self.decay)}

    def move(self, which: Tensor, places: Tensor) -> None:
        """Put codes, those marked in (size,), to places (size, dim)."""
        self.embed.copy_(torch.where(which[:, None], places, self.embed))
