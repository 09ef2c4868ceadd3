"""Run a function in several processes that know of each other, for tests."""

import multiprocessing
import os
import queue
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch

CONTEXT = multiprocessing.get_context("forkserver")  # which imports torch once
CONTEXT.set_forkserver_preload(["gradloom.engine.trainer", "gradloom.evaluators.ssim", "gradloom.evaluators.kid"])
SECONDS = 300


def alongside(processes: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What a function, at the top of a module, returns in each of so many processes: plain values, by their numbers."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port = opened.getsockname()[1]
    results = CONTEXT.Queue()
    started = [
        CONTEXT.Process(target=_work, args=(results, number, processes, port, function, arguments), daemon=True)
        for number in range(processes)
    ]
    for process in started:
        process.start()
    try:
        reports = dict(_next(results, started) for _ in started)
    finally:
        for process in started:
            process.join(5)
            process.kill()
    failed = "\n".join(report for report in reports.values() if isinstance(report, str))
    assert not failed, failed
    return [reports[number][0] for number in range(processes)]


def _next(results: Any, started: Sequence[Any]) -> tuple[int, Any]:
    """The next report, unless a process has died."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and not any(process.exitcode for process in started):
        with suppress(queue.Empty):
            return results.get(timeout=1)
    raise AssertionError(f"no report; exit codes: {[process.exitcode for process in started]}")


def _work(
    results: Any, number: int, processes: int, port: int, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    try:
        results.put((number, (function(*arguments),)))
    except BaseException:
        results.put((number, f"process {number}: {traceback.format_exc()}"))
