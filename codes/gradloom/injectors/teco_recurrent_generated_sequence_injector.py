"""A video made frame by frame, each from the one before."""

from typing import Annotated, Any

import torch
from annotated_types import Gt
from torch import Tensor, nn
from torch.nn import functional as F

from gradloom.injectors._flow import enlarged, flow_between, warp
from gradloom.parts import Arguments, Injector, Net, Read, Write


class TecoRecurrentGeneratedSequenceInjector(Injector, type="teco_recurrent_generated_sequence_injector"):
    """Calls a generator on each frame of a video, forwards and then backwards (TecoGAN, arXiv 1811.09393, section 3).

    The tensors in `in` are videos (B, T, ...), of which the generator is given one frame; constants are given as they
    are. In the place `recurrent_index` it is given what it made before, warped onto the present frame by the flow that
    `flow_network` sees between the two; at first zeroes, or with `hq_recurrent` what stands there. Each of `out` holds
    what was made, (B, 2T - 1, ...), or (B, T, ...) without `do_backwards`; each of `out_batched` the T frames of the
    way forwards as samples (T * B, ...), and `hq_batched_key` those of `hq`.

    The network maps two images (B, C, 2, H, W) to a flow (B, 2, H, W) in pixels, to the right and down, and is called
    without gradients; they flow through what is warped, on both ways. In the ancestor they did so forwards only, and
    there reached the flow as well; and a flow that was enlarged `scale` times kept its numbers.
    """

    generator: Net
    flow_network: Net
    in_: Arguments
    out: Write | tuple[Write, ...]
    recurrent_index: int  # the place in `in`, from 0, of what was made before
    scale: Annotated[float, Gt(0)]  # how many times as large as its input the generator's images are
    first_inputs: Arguments | None = None  # in place of `in` for the first frame
    input_lq_index: int = 0  # the place in `in` of the frames
    output_hq_index: int = 0  # the place of the images in what the generator returns
    output_recurrent_index: int | None = None  # of what it is given again; by itself that of the images
    flow_input_key: Read | None = None  # a video in whose frames the flow is seen; by itself that of the input
    do_backwards: bool = True
    hq_recurrent: bool = False
    hq: Read | None = None  # by itself `hq`, if `hq_batched_key` is there
    out_batched: tuple[Write, ...] | None = None  # by itself `<out>_batched` for each of `out`
    hq_batched_key: Write | None = None

    def check(self) -> None:
        """Name the keys that have no name yet, and see that places exist."""
        outs = (self.out,) if isinstance(self.out, str) else self.out
        given = _several(self.in_)
        if not outs or len(self.out_batched or outs) != len(outs):
            raise ValueError("'out_batched' has a key for each of 'out', which has at least one")
        for option, place in (("recurrent_index", self.recurrent_index), ("input_lq_index", self.input_lq_index)):
            if not 0 <= place < len(given):
                raise ValueError(f"{option!r} is a place in 'in', from 0 to {len(given) - 1}")
        self.out_batched = self.out_batched or tuple(f"{key}_batched" for key in outs)
        if self.hq_batched_key is None and self.hq is not None:
            raise ValueError("'hq' is for 'hq_batched_key'; write both")
        self.hq = "hq" if self.hq is None and self.hq_batched_key else self.hq

    def forward(
        self, generator: nn.Module, flow_network: nn.Module, in_: Any, first_inputs: Any,
        flow_input_key: Tensor | None, hq: Tensor | None,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        videos = _several(in_)
        seen = videos[self.input_lq_index] if flow_input_key is None else flow_input_key
        count = videos[self.input_lq_index].shape[1]
        inputs = _frame(videos if first_inputs is None else _several(first_inputs), 0)
        if not self.hq_recurrent:
            inputs[self.recurrent_index] = torch.zeros_like(inputs[self.recurrent_index])
        made = [_several(generator(*inputs))]
        for frame in [*range(1, count), *(reversed(range(count - 1)) if self.do_backwards else ())]:
            inputs = _frame(videos, frame)
            inputs[self.recurrent_index] = self._before(made[-1], seen[:, frame], flow_network)
            made.append(_several(generator(*inputs)))
        outs = 1 if isinstance(self.out, str) else len(self.out)
        results = [[each[place] for each in made] for place in range(outs)]
        batched = [torch.cat(result[:count]) for result in results]
        real = () if hq is None else (hq.transpose(0, 1).flatten(0, 1),)
        return *(torch.stack(result, dim=1) for result in results), *batched, *real

    def _before(self, made: tuple[Any, ...], frame: Tensor, flow_network: nn.Module) -> Tensor:
        """What was made before, as it stands in a frame."""
        image, again = self.output_hq_index, self.output_recurrent_index
        small = F.interpolate(made[image], scale_factor=1 / self.scale, mode="bicubic")
        flow = flow_between(flow_network, frame, small)
        recurrent: Tensor = made[image if again is None else again]
        return warp(recurrent, flow if recurrent.shape[-1] == flow.shape[-1] else enlarged(flow, self.scale))


def _several(given: Any) -> tuple[Any, ...]:
    return tuple(given) if isinstance(given, tuple | list) else (given,)


def _frame(videos: tuple[Any, ...], number: int) -> list[Any]:
    """One frame of each video, and the constants among them."""
    return [video[:, number] if isinstance(video, Tensor) else video for video in videos]
