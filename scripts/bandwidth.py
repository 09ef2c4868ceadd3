"""How fast processes average: an all-reduce of several sizes, over gloo or nccl.

    torchrun --nproc_per_node 2 scripts/bandwidth.py [--backend gloo] [--sizes 1e3 1e6 3e7] [--rounds 7]

The first process prints one JSON object a size: seconds (the median of the rounds, of the slowest process in each),
`algorithm_gb_s`, the bytes over that, and `bus_gb_s`, times 2 (N - 1) / N: what each process sends in a ring. It is
in 32-bit floats, in billions of bytes a second.
"""

import argparse
import json
import os
import statistics
import time
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

BYTES = 4
SIZES = (1e3, 1e5, 1e6, 8e6, 3.2e7, 1e8)


def seconds(tensor: Tensor) -> float:
    """What one all-reduce takes until the slowest process is done with it."""
    dist.barrier()
    synchronize(tensor)
    began = time.perf_counter()
    dist.all_reduce(tensor)
    synchronize(tensor)
    taken = torch.tensor([time.perf_counter() - began], device=tensor.device)
    dist.all_reduce(taken, op=dist.ReduceOp.MAX)
    return float(taken)


def synchronize(tensor: Tensor) -> None:
    if tensor.device.type == "cuda":
        torch.cuda.synchronize()


def measure(size: int, rounds: int, device: torch.device) -> dict[str, object]:
    processes = dist.get_world_size()
    tensor = torch.zeros(max(1, size // BYTES), device=device)
    seconds(tensor)
    median = statistics.median(seconds(tensor) for _ in range(rounds))
    rate = tensor.numel() * BYTES / median / 1e9
    return {
        "backend": dist.get_backend(),
        "processes": processes,
        "bytes": tensor.numel() * BYTES,
        "seconds": float(f"{median:.4g}"),
        "algorithm_gb_s": float(f"{rate:.4g}"),
        "bus_gb_s": float(f"{rate * 2 * (processes - 1) / processes:.4g}"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=["gloo", "nccl"], default="gloo")
    parser.add_argument("--sizes", nargs="+", type=float, default=SIZES, help="bytes")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    local = int(os.environ["LOCAL_RANK"])
    device = torch.device("cuda", local) if options.backend == "nccl" else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(options.backend, timeout=timedelta(minutes=5))
    for size in options.sizes:
        told = measure(int(size), options.rounds, device)
        if dist.get_rank() == 0:
            print(json.dumps(told), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
