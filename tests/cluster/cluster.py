"""convd as a cluster runs it, tried on one machine: three replicas behind HAProxy, each in a network
namespace with a CPU quota. A rolling restart, a kill, an overload; counts are printed.

    make cluster-test

Exit status 1 when a promise is broken, 0 with a line that says why where it cannot be tried.
"""

import argparse
import contextlib
import pathlib
import signal
import tempfile
import time

import replicas as cluster

CORES = 0.5
PRE_STOP = 0.5  # seconds between the balancer's learning of it and SIGTERM: the chart's preStop


@contextlib.contextmanager
def replicas_of(*arguments):
    """One replica for each list of arguments."""
    made = []
    try:
        for number, each in enumerate(arguments, 1):
            made.append(cluster.Replica(args.binary, number, CORES, each))
            made[-1].start()
        yield made
    finally:
        for replica in made:
            replica.remove()


@contextlib.contextmanager
def balancer_of(group, **more):
    with tempfile.TemporaryDirectory() as folder:
        balancer = cluster.Balancer(group, pathlib.Path(folder), **more)
        try:
            yield balancer
        finally:
            balancer.remove()


def say(name, level, more):
    print(f"{name}: {level['requests']} requests, {level['failed']} failed; {more}", flush=True)
    assert level["requests"] > level["failed"], "nothing was answered"


def rolling_restart(group):
    """Each replica in turn is taken out, drained and started anew: no request fails."""
    with balancer_of(group) as balancer:
        load = cluster.LastingLoad(args.load, balancer.url, args.seconds, 6)
        for replica in group:
            time.sleep(args.seconds / 2)
            balancer.set_state(replica, "drain")
            time.sleep(PRE_STOP)
            assert replica.end() == 0, "a drained replica ends with status 0"
            replica.start()
            balancer.set_state(replica, "ready")
        level = load.finish()
        say("rolling restart", level, f"{len(group)} replicas anew, ready after "
            + ", ".join(f"{r.starts[-1] * 1000:.0f} ms" for r in group))
        assert level["failed"] == 0


def sudden_restart(group):
    """SIGTERM alone, before anybody knows: the server drains, the balancer asks others."""
    with balancer_of(group) as balancer:
        load = cluster.LastingLoad(args.load, balancer.url, args.seconds, 6)
        for replica in group[:2]:
            time.sleep(args.seconds / 2)
            assert replica.end() == 0
            replica.start()
        level = load.finish()
        say("restart unannounced", level, "%d asked again, %d of another replica" % balancer.retries())
        assert level["failed"] == 0


def kill(group):
    """A replica dies: what it was at work on fails, nothing else."""
    # An answer that never began may belong to a request that ran: it is not asked again here.
    with balancer_of(group, retry="conn-failure 503") as balancer:
        load = cluster.Load(args.load, balancer.url, args.seconds, "-c", 6)
        time.sleep(args.seconds / 2)
        victim = group[0]
        # What it has at the moment it is killed: it is stopped, then counted from outside.
        victim.process.send_signal(signal.SIGSTOP)
        time.sleep(0.05)
        at_work = int(balancer.row(f"r{victim.number}")["scur"])
        victim.end(signal.SIGKILL)
        level = load.finish()
        say("one killed", level, f"{at_work} were in flight on it; "
            "%d asked again, %d of another replica" % balancer.retries())
        assert level["failed"] <= at_work, "requests failed that it was not at work on"
        victim.start()


def counted(name, group, connections):
    """A load; what it measured, and what each replica refused and ran."""
    with balancer_of(group) as balancer:
        before = [(r.answered(503), r.metric("convd_samples_total")) for r in group]
        level = cluster.Load(args.load, balancer.url, args.seconds, "-c", connections).finish()
        after = [(r.answered(503), r.metric("convd_samples_total")) for r in group]
        refused, ran = ([int(a[i] - b[i]) for a, b in zip(after, before)] for i in (0, 1))
        say(name, level, f"refused by the replicas {refused}, answered {ran}; "
            "%d asked again, %d of another replica" % balancer.retries())
        return level, refused, ran


def one_full(group):
    """One replica takes next to nothing: what it refuses the others answer."""
    level, refused, ran = counted("one replica full", group, 12)
    assert refused[0] > 0 and refused[1:] == [0, 0], "only the first one should be full"
    assert min(ran[1:]) > 0 and level["failed"] == 0


def overload(group):
    """All are full: each refuses and answers, and what is refused in the end says when to come again."""
    level, refused, ran = counted("overload", group, 24)
    assert min(refused) > 0, "this was no overload"
    assert min(ran) > 0, "a replica had nothing to do"
    assert level["failed"] < sum(refused), "refused requests were not asked again"
    assert level["answers"].keys() == {"200", "503"} and level["without_retry_after"] == 0


def main():
    why = cluster.impossible()
    if why is not None:
        print(f"skipped: {why}")
        return
    with replicas_of(*[["--drain-timeout", "10"]] * 3) as group:
        print("; ".join(f"replica {r.number}: {r.quota.said}" for r in group))
        rolling_restart(group)
        sudden_restart(group)
        kill(group)
    full = ["--max-queue", "1", "--max-batch", "1"]
    with replicas_of(full, [], []) as group:
        one_full(group)
    with replicas_of(full, full, full) as group:
        overload(group)


parser = argparse.ArgumentParser()
parser.add_argument("--load", type=pathlib.Path, required=True, help="convd-load")
parser.add_argument("--binary", type=pathlib.Path, required=True, help="convd")
parser.add_argument("--seconds", type=float, default=3, help="how long a step is under load")
args = parser.parse_args()
args.binary, args.load = args.binary.resolve(), args.load.resolve()
main()
