"""Speed against the idiomatic hand-written loop: the same networks, batches and average, in turn.

    python scripts/bench.py [--only micro esrgan dcgan saves parts data] [--rounds 15] [--threads 2] [--device cpu]
    python scripts/bench.py --gpu        # everything that there is to measure on a GPU

Prints one JSON object a line: medians in milliseconds an iteration, in seconds for 1,000 images, and the ratio trainer
/ loop (under 1: the trainer is faster), the median over rounds in which both ran one after the other. Each runs in a
process of its own, which `_mb` tells the peak memory of, unless `--together` puts both into one. `saves` compares how
long training stands still for a checkpoint that a thread writes and for one that it writes itself. `parts` says what
the interpreter itself costs, by plans of 10, 100 and 1,000 parts that do nothing. `data` says how long `fit()` waits
for its data.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "codes"))

import torch
from benches.cases import CASES, EVERY, ON_GPUS
from benches.versus import compare

VARIANTS = [
    ["speed=safe"],
    ["speed={compile: true}"],
    ["speed={cuda_graphs: true, channels_last: false, compile: false}"],
    ["speed=safe", "precision=bf16"],
    ["speed={compile: true}", "precision=bf16"],
    ["speed={cuda_graphs: true, channels_last: false, compile: false}", "precision=bf16"],
]


def saves(rounds: int, device: str) -> None:
    from benches.saves import saves

    saves(rounds, device)


def parts(rounds: int, device: str) -> None:
    from benches.parts import parts

    parts(rounds, device)


def data(rounds: int, device: str) -> None:
    from benches.data import data

    data(rounds, device)


OTHERS = {"saves": saves, "parts": parts, "data": data}  # each imports what it needs: the comparisons need less memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[*EVERY, *OTHERS], default=[*CASES, *OTHERS])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--set", nargs="+", default=[], metavar="a.b=c", help="options of the trainer's side")
    parser.add_argument("--together", action="store_true", help="both in one process, with one memory")
    parser.add_argument(
        "--gpu", action="store_true", help="all cases on a GPU, in fp32 and bf16, compiled, recorded or neither"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.gpu:
        for name in [*CASES, *ON_GPUS]:
            for changes in [[], *VARIANTS]:
                compare(name, options.rounds, "cuda", tuple(changes))
        saves(options.rounds, "cuda")
        return
    for name in options.only:
        if name in OTHERS:
            OTHERS[name](options.rounds, options.device)
        else:
            compare(name, options.rounds, options.device, tuple(options.set), options.together)


if __name__ == "__main__":
    main()
