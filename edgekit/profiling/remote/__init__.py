"""Measure on a board over ssh: the same profile, made there.

url.py         ssh://[user@]host[:port], parsed strictly
ssh.py         the user's own ssh client: its command line, what its errors mean
exchange.py    one ssh process, never without a time limit
frames.py      messages between whatever else a board prints
agent.py       what runs there on every call: one file, standard library, sent over stdin
device.py      calls of the agent
goods.py       what is pushed, under its sha256
own_wheel.py   this edgekit as a wheel
wheelhouse.py  what a board without a network needs beside it
board.py       the job itself, detached there
measuring.py   probe, push, run, watch, fetch, clean up

How to set a board up, and what stays on it: docs/devices.md.
"""

from edgekit.profiling.remote.measuring import Patience, profile_on_device
from edgekit.profiling.remote.url import DeviceUrl, parse_url

__all__ = ["DeviceUrl", "Patience", "parse_url", "profile_on_device"]
