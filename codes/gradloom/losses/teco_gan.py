"""What it costs to make a film that moves wrongly, or to be mistaken about one."""

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn.functional import grid_sample, interpolate

from gradloom.errors import RunError
from gradloom.losses._adversarial import judge, non_saturating, relativistic, two_class
from gradloom.losses._penalty import full_precision, gradients, penalty
from gradloom.parts import Loss, Metrics, Net, Read, Scalar, Scheduled, widen


class TecoGan(Loss, type="teco_gan"):
    """Lets a discriminator judge three images of a film in a row, once as they are and once moved onto the middle one.

    `real` and `fake` are films (B, T or more, C, H, W), of which the first T images count, T of `lr_inputs`, the small
    film (B, T, C, h, w) that `fake` was made from. For each middle image the discriminator gets (B, 6C, H, W) without
    its margin: the images before, at and after it, then the one before moved onto it, itself, and the one after moved
    onto it (TecoGAN, Chu et al. 2020, arXiv 1811.09393, section 3.1).

    How to move is told by the network `image_flow_generator`, which gets pairs (N, C, 2, h, w) of small images and
    returns a flow (N, 2, h, w), or a smaller one: how many pixels to the right and downwards the second image has what
    the first has at a place. It learns nothing here. (The ancestor asked it about the large images, by which a
    generator can mislead it, and added the penalty only where the loss was below `min_loss`.)

    `gan` and `pixgan` are m(softplus(-f)) for a generator and m(softplus(-r)) + m(softplus(f)) for a discriminator;
    `ragan` is as in the loss `discriminator_gan`, and with the sides exchanged for a generator. The losses of the T - 2
    middle images are added up. Metrics are the mean scores d_fake and d_real, for ragan their difference d_fake_diff,
    and the gradient_penalty, 10 times what `discriminator_gan` has by that name.
    """

    gan_type: Literal["gan", "pixgan", "ragan"]
    discriminator: Net
    image_flow_generator: Net
    real: Read
    fake: Read
    lr_inputs: Read
    scale: Annotated[int, Gt(0)]  # how many times larger `real` and `fake` are than `lr_inputs`
    for_generator: bool  # whether it is the generator that learns
    margin: Annotated[int, Ge(0)]  # pixels at each edge that the discriminator does not see, where flows go wrong
    min_loss: Annotated[float, Ge(0)] = 0.0  # a middle image whose loss is below it does not count
    noise: Scheduled = 0.0  # uniform noise in [0, noise) is added to all that is judged
    gradient_penalty: bool = False  # for a discriminator
    fast_forward: bool = False  # judges all middle images at once: faster, more memory, and a mean in place of the sum

    def check(self) -> None:
        if self.gradient_penalty and self.for_generator:
            raise ValueError("'gradient_penalty' is for the discriminator's loss; with 'for_generator' remove it")

    def twice(self) -> tuple[str, ...]:
        return (self.discriminator,) if self.gradient_penalty else ()

    def forward(
        self, discriminator: nn.Module, image_flow_generator: nn.Module, real: Tensor, fake: Tensor, lr_inputs: Tensor
    ) -> tuple[Scalar, Metrics]:
        flows = self._flows(image_flow_generator, lr_inputs)
        reals = self._sextuplets(real.detach(), flows)
        fakes = self._sextuplets(fake if self.for_generator else fake.detach(), flows)
        results = [self._compare(discriminator, r, f) for r, f in zip(reals, fakes, strict=True)]
        loss = torch.stack([loss for loss, _ in results]).sum()
        return loss, {name: torch.stack([one[name] for _, one in results]).mean() for name in results[0][1]}

    @torch.no_grad()
    def _flows(self, network: nn.Module, small: Tensor) -> Tensor:
        """Flows (T - 2, 2, B, 2, H, W) from each middle image to the one before and to the one after."""
        if small.ndim != 5 or small.shape[1] < 3:
            raise RunError(f"teco_gan: {self.lr_inputs!r} is a film (B, 3 or more, C, h, w), got {tuple(small.shape)}")
        pairs = [
            torch.stack([small[:, middle], small[:, other]], 2)
            for middle in range(1, small.shape[1] - 1)
            for other in (middle - 1, middle + 1)
        ]
        size = [side * self.scale for side in small.shape[3:]]
        with full_precision(small):
            flows = network(widen(torch.cat(pairs)))
        large: Tensor = interpolate(flows, size, mode="bilinear") * (size[1] / flows.shape[3])
        return large.reshape(len(pairs) // 2, 2, -1, *large.shape[1:])

    def _sextuplets(self, film: Tensor, flows: Tensor) -> list[Tensor]:
        """What the discriminator sees of each middle image, or of all of them in one batch."""
        if film.shape[3:] != flows.shape[4:] or film.shape[1] < len(flows) + 2:
            wanted = f"{len(flows) + 2} images or more, {self.scale} times larger than {self.lr_inputs!r}"
            raise RunError(f"teco_gan: a film has to have {wanted}; it is {tuple(film.shape)}")
        seen = []
        for first, (back, on) in enumerate(flows):
            before, middle, after = widen(film)[:, first : first + 3].unbind(1)
            six = torch.cat([before, middle, after, moved(before, back), middle, moved(after, on)], 1)
            height, width = six.shape[2:]
            seen.append(six[:, :, self.margin : height - self.margin, self.margin : width - self.margin])
        return [torch.cat(seen)] if self.fast_forward else seen

    def _compare(self, discriminator: nn.Module, real: Tensor, fake: Tensor) -> tuple[Scalar, Metrics]:
        real, fake = (seen + torch.rand_like(seen) * self.noise if self.noise else seen for seen in (real, fake))
        steep = None
        if self.gradient_penalty:
            real = real.requires_grad_()
            with full_precision(real):
                r = judge(discriminator, (real,))
            steep = 10 * penalty(gradients(r, real), 1)
        else:
            r = judge(discriminator, (real,))
        f = judge(discriminator, (fake,))
        metrics = {"d_fake": f.detach().mean(), "d_real": r.detach().mean()}
        if self.gan_type == "ragan":
            metrics["d_fake_diff"] = metrics["d_fake"] - metrics["d_real"]
        loss = self._loss(r, f)
        counts = (loss.detach() >= self.min_loss).to(loss.dtype)
        if steep is None:
            return loss * counts, metrics
        return (loss + steep) * counts, {**metrics, "gradient_penalty": steep.detach()}

    def _loss(self, real: Tensor, fake: Tensor) -> Scalar:
        if self.gan_type == "ragan":
            return relativistic(fake, real) if self.for_generator else relativistic(real, fake)
        return non_saturating(fake) if self.for_generator else two_class(real, fake)


def moved(images: Tensor, flow: Tensor) -> Tensor:
    """Fetch each pixel of (B, C, H, W) from where a flow (B, 2, H, W) points, between pixels bilinearly.

    Flows are in pixels to the right and downwards. What points outside gets the nearest pixel of the edge.
    """
    height, width = images.shape[2:]
    across = torch.arange(width, device=flow.device, dtype=flow.dtype) + flow[:, 0]
    down = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None] + flow[:, 1]
    places = torch.stack([(2 * across + 1) / width - 1, (2 * down + 1) / height - 1], 3)
    return grid_sample(images, places.to(images), padding_mode="border", align_corners=False)
