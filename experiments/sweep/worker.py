"""One job of a sweep: `python -m experiments.sweep.worker DESCRIPTOR MODULE ARGUMENT ...`.

It runs `python -m MODULE ARGUMENT ...`, and is sent SIGTERM when the sweep, which holds the other end of the pipe
DESCRIPTOR, ends, also where that is killed; a training then writes a checkpoint and ends.
"""

import runpy
import sys

from runtime import signals

if __name__ == "__main__":
    descriptor, module, *arguments = sys.argv[1:]
    signals.end_with(int(descriptor))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
