"""A number that changes over the run."""

from gradloom.parts import Injector, Scheduled, Write


class ScheduledScalar(Injector, type="scheduled_scalar"):
    """Writes the value that a schedule has in the iteration, as a Python float.

    A schedule is `{linear: {from: 0, to: 1, end: 1000}}`, or in the ancestor's way
    `{type: linear_decay, initial_weight: 1, lower_bound: 0, steps: 1000}`.
    """

    scheduler: Scheduled
    out: Write

    def forward(self) -> Scheduled:
        return self.scheduler
