"""How many threads a training uses. The bits of the weights depend on their number, so it does not depend on other programs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vaectl.base.errors import warn
from vaectl.base.processes import cpu_count


@contextmanager
def limit_threads(resumed: int | None) -> Iterator[None]:
    """Use as many threads as CPUs that this process may use, or as many as the run had that is resumed.

    OMP_NUM_THREADS wins over both. A warning advises fewer where other programs keep the CPUs busy: at each barrier, all threads
    wait for the one that another program delays.
    """
    usual = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(usual, resumed or cpu_count()))
        load = os.getloadavg()[0]
        if torch.get_num_threads() > 1 and load >= (os.cpu_count() or 1):
            warn(f"other programs keep the CPUs busy (load {load:.1f}): OMP_NUM_THREADS=1 may be faster")
    try:
        yield
    finally:
        torch.set_num_threads(usual)
