"""The real-time loop: sense, decide, act at a fixed rate, with deadlines.

`clock` sleeps to an absolute time and asks the kernel for priority and a core, `machine` is what the loop senses and
acts on, `watchdog` acts where the loop does not, `histogram` and `energy` measure, `run` is the loop.
"""

from nimbleq.serve.loop.machine import Machine, machine_of
from nimbleq.serve.loop.run import Settings, run_loop
from nimbleq.serve.loop.tally import Tally

__all__ = ["Machine", "Settings", "Tally", "machine_of", "run_loop"]
