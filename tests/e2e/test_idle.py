"""A server that nobody asks anything does nothing: over five seconds no thread of it computes, spins
or wakes up again and again."""

import pathlib
import re
import time

import pytest

from serving import INSTRUMENTED, Server, ROOT

SECONDS = 5
# A thread that spins takes 500 of these; one that looks around ten times a second wakes 50 times.
# What is allowed is for the rests of the last request: a team that goes to sleep, a timer.
TICKS = 5
WAKES = 25


def used(pid):
    """{thread: (name, ticks of processor time, times it has slept)} of a process."""
    found = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        stat = (task / "stat").read_text().rsplit(")", 1)
        slept = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", (task / "status").read_text(), re.M)
        fields = stat[1].split()
        found[int(task.name)] = (stat[0].split("(", 1)[1], int(fields[11]) + int(fields[12]),
                                 int(slept.group(1)))
    return found


def asked(server):
    """So many requests that every executor and team has been at work."""
    body = next((ROOT / "models/fashion/samples").iterdir()).read_bytes()
    for _ in range(20):
        assert server.post("/v2/models/fashion/classify", body).status_code == 200


@pytest.mark.skipif(INSTRUMENTED, reason="sanitizers have threads of their own")
@pytest.mark.parametrize("after", ["its start", "requests"])
def test_idle(after):
    server = Server(ROOT / "models/fashion", "--threads", "2")
    try:
        if after == "requests":
            asked(server)
        server.session.close()
        time.sleep(0.5)
        before = used(server.process.pid)
        time.sleep(SECONDS)
        now = used(server.process.pid)
        busy = [f"{name} ({thread}): {ticks - before[thread][1]} ticks, "
                f"slept {slept - before[thread][2]} times"
                for thread, (name, ticks, slept) in now.items() if thread in before
                and (ticks - before[thread][1] > TICKS or slept - before[thread][2] > WAKES)]
        assert not busy, busy
        assert set(now) <= set(before), "threads were made"
    finally:
        assert server.stop() == 0
