"""Whether freed memory is used again."""

import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource
import numpy as np
from vaectl.base.memory import reuse_large_blocks

{setup}
np.ones(1 << 23)  # 64 MB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    np.ones(1 << 23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, nothing changes")
def test_large_blocks_of_memory_are_used_again_without_asking_the_system() -> None:
    faults = {}
    for setup in ("", "reuse_large_blocks()"):
        script = COUNT_FAULTS.format(setup=setup)
        faults[setup] = int(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout)
    assert faults["reuse_large_blocks()"] < faults[""] / 10
