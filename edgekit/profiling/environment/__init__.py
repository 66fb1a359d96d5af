"""The machine that measures and its state: read before and after, and never set.

files.py    read what /proc and /sys say, whatever it is
cpus.py     which CPUs there are, and which to measure on
machine.py  what must be equal before two results may be compared
state.py    what can change while measuring
jetson.py   what only a Jetson has
notes.py    what the user should know, or change, before believing the figures
"""

from edgekit.profiling.environment.cpus import allowed_cpus, big_cpus, choose_cpus, online_cpus
from edgekit.profiling.environment.machine import read_machine
from edgekit.profiling.environment.notes import notes
from edgekit.profiling.environment.state import read_state

__all__ = [
    "allowed_cpus",
    "big_cpus",
    "choose_cpus",
    "notes",
    "online_cpus",
    "read_machine",
    "read_state",
]
