"""Peak memory of a stretch of work."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path


class PeakMemory:
    """Highest memory use since it was made, in bytes: allocated on a GPU, resident on a CPU.

    On Linux the kernel's high-water mark is reset first. Elsewhere it cannot be, and the peak is
    that of the whole process so far.
    """

    def __init__(self, device: str) -> None:
        self.cuda = device.startswith("cuda")
        if self.cuda:
            import torch

            torch.cuda.reset_peak_memory_stats()
        elif sys.platform == "linux":
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")

    def read(self) -> int:
        """The peak so far."""
        if self.cuda:
            import torch

            return int(torch.cuda.max_memory_allocated())
        if sys.platform == "linux":
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's global generators seeded inside, and as they were outside."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
