"""How many torch threads an actor may use."""

import os


def granted_threads() -> int:
    """The CPUs Ray gave this actor, at least 1.

    Ray sets OMP_NUM_THREADS to an actor's `num_cpus`. Without an explicit share one thread: two
    beside another busy process run many times slower than one.
    """
    return max(1, int(os.environ.get("OMP_NUM_THREADS", "1")))
