"""When a run has to be over: its own limit, or that of the queue it was started by."""

import os
import time

from gradloom.config.sections import Train


class Deadline:
    """Passed when the time is up, so many minutes before the limit as it takes to save.

    A clock that is set meanwhile makes no difference.
    """

    def __init__(self, options: Train) -> None:
        limits = [time.monotonic() + options.max_hours * 3600] if options.max_hours else []
        job_ends = os.environ.get("SLURM_JOB_END_TIME", "")
        if options.save_before_timeout is not None and job_ends.isdecimal():
            limits.append(time.monotonic() + float(job_ends) - time.time())
        self.end = min(limits) - 60 * (options.save_before_timeout or 0) if limits else None
        self.unknown = options.save_before_timeout is not None and not limits

    @property
    def passed(self) -> bool:
        return self.end is not None and time.monotonic() >= self.end
