"""The largest resident size of this process since a moment of our choice.

Linux keeps it as `VmHWM` in `/proc/self/status`, and sets it back when 5 is written to `/proc/self/clear_refs`: see
proc(5). Elsewhere the figure is that of the whole life of the process, as getrusage(2) says it.
"""

import ctypes
import resource
import sys
from contextlib import suppress
from pathlib import Path

_PROCESS = Path("/proc/self")


def reset_peak() -> None:
    """Begins to measure anew, where the system can.

    What the C library keeps of memory that was freed goes back to the system first: otherwise what comes next would
    seem to need nothing.
    """
    with suppress(OSError, AttributeError):  # only the GNU library has it
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        (_PROCESS / "clear_refs").write_text("5")


def measure_peak() -> int:
    """Returns the largest resident size in bytes since `reset_peak`."""
    with suppress(OSError):
        for line in (_PROCESS / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
