"""Stands in for ssh: runs the remote command here, in a home of its own, and fails on request.

    fake_ssh.py STATE [ssh's own words ...] -- HOST COMMAND

STATE/plan.json   {"environment": {...}, "calls": [how, how, ...]}; after the last: ok
STATE/calls.json  a line a call: the words it was given

    {}                     runs the command
    {"say": text}          on stderr, and exit 255: what ssh does when it cannot connect
    {"banner": text}       on stdout first
    {"garbage": true}      on stdout, for ever
    {"hang": true}         takes what comes and says nothing
    {"cut": n}             the connection drops after n bytes of the answer
    {"cut_input": n}       the connection drops after n bytes were sent
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

CLOSED = "Connection to board closed by remote host."


def main() -> None:
    state, words = Path(sys.argv[1]), sys.argv[2:]
    plan = json.loads((state / "plan.json").read_text())
    with (state / "calls.json").open("a") as file:
        file.write(json.dumps(words) + "\n")
    number = len((state / "calls.json").read_text().splitlines()) - 1
    how = plan["calls"][number] if number < len(plan["calls"]) else {}
    command, environment = words[words.index("--") + 2 :], plan["environment"]
    os.chdir(environment["HOME"])
    if "say" in how:
        sys.exit(_fail(how["say"]))
    if "banner" in how:
        print(how["banner"], flush=True)  # noqa: T201
    if "hang" in how:
        time.sleep(600)
    while "garbage" in how:
        os.write(1, b"\x1b[31mwelcome \xff" * 1000)
    if "cut" in how:
        sys.exit(_cut(command, environment, how["cut"]))
    if "cut_input" in how:
        sys.exit(_cut_input(command, environment, how["cut_input"]))
    os.execve("/bin/sh", ["/bin/sh", "-c", *command], environment)


def _fail(text: str) -> int:
    sys.stderr.write(text + "\n")
    return 255


def _cut(command: list[str], environment: dict[str, str], count: int) -> int:
    with subprocess.Popen(
        ["/bin/sh", "-c", *command], env=environment, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        while count > 0 and (data := os.read(process.stdout.fileno(), count)):
            os.write(1, data)
            count -= len(data)
        process.stdout.close()  # what the other side writes from now on meets a broken pipe
        os._exit(_fail(CLOSED))


def _cut_input(command: list[str], environment: dict[str, str], count: int) -> int:
    with subprocess.Popen(
        ["/bin/sh", "-c", *command],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin is not None
        while count > 0 and (data := os.read(0, min(count, 1 << 16))):
            process.stdin.write(data)
            count -= len(data)
    return _fail(CLOSED)


if __name__ == "__main__":
    main()
