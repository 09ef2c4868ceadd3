"""How an epoch is cut into batches, and a batch into the shares of processes."""

from gradloom.errors import Fault
from gradloom.plan.plan import Dataset


def batches_in_epoch(dataset: Dataset, length: int, processes: int) -> int:
    """How many batches an epoch of so many samples has."""
    whole, rest = divmod(length, dataset.batch(processes))
    return whole + (rest > 0 and not dataset.drop_last)


def share_of(size: int, process: int, processes: int) -> range:
    """Which samples of a batch a process takes: all take as many, or the first ones one more."""
    even, more = divmod(size, processes)
    first = process * even + min(process, more)
    return range(first, first + even + (process < more))


def misfit(dataset: Dataset, length: int, processes: int) -> Fault | None:
    """Why so many samples cannot be cut into batches, and these into shares; None where they can."""
    size = dataset.batch(processes)
    if size % processes:
        message = f"a batch of {size} does not divide by {processes} processes; write {size + -size % processes}, or "
        return dataset.batch_fault(f"{message}start another number of them")
    if dataset.drop_last and length < size:
        message = f"a batch of {size} needs as many samples, but there are {length}; lower it, or write "
        return dataset.batch_fault(f"{message}'drop_last: false'")
    rest = 0 if dataset.drop_last else length % size
    if 0 < rest < processes:
        message = f"the last batch of an epoch of {length:,} samples has {rest}, too few for {processes} processes; "
        return dataset.batch_fault(f"{message}write another size, or 'drop_last: true'")
    return None
