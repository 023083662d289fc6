#!/usr/bin/env python3
"""How many replicas answer N requests a second: Erlang's C formula on what `convd bench` measured.

    convd bench MODEL --threads 2 --json > bench.json        on a node, with the Pod's CPU limit
    replicas.py bench.json --rate 2000 --wait 20ms

README.md beside this file says what the formula assumes.
"""

import argparse
import collections
import json
import math
import re

Plan = collections.namedtuple("Plan", "busy replicas utilization waiting wait")


def erlang_c(servers, load):
    """The share of requests that wait in M/M/c; load is arrival rate times service time, below servers."""
    b = 1.0  # Erlang's B for 0, 1, 2 ... servers
    for k in range(1, servers + 1):
        b = load * b / (k + load * b)
    return b / (1 - load / servers * (1 - b))


def wait(servers, rate, service, quantile):
    """Seconds that this quantile of requests waits at most, at rate requests a second of so many
    seconds each."""
    waiting = erlang_c(servers, rate * service)
    if waiting <= 1 - quantile:
        return 0.0
    return math.log(waiting / (1 - quantile)) / (servers / service - rate)


def plan(capacity, rate, longest, quantile, spare, utilization):
    """The fewest replicas of capacity requests a second each that carry rate, no busier than
    utilization and with that quantile of waits within longest seconds; and spare more."""
    c = max(1, math.ceil(rate / capacity / utilization - 1e-9))
    while wait(c, rate, 1 / capacity, quantile) > longest:
        c += 1
    return Plan(c, c + spare, rate / capacity / c, erlang_c(c, rate / capacity),
                wait(c, rate, 1 / capacity, quantile))


def number(least, below=math.inf):
    def read(text):
        value = float(text)
        if not least < value < below:
            raise argparse.ArgumentTypeError(f"{text} is not between {least} and {below}")
        return value
    return read


def seconds(text):
    found = re.fullmatch(r"([0-9.]+)(ms|s)?", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text} is no time, as 20ms or 0.02")
    return float(found.group(1)) * (0.001 if found.group(2) == "ms" else 1)


def main():
    p = argparse.ArgumentParser(description="Replicas for N requests a second.")
    p.add_argument("bench", type=argparse.FileType(), help="output of convd bench --json")
    p.add_argument("--rate", type=number(0), required=True, help="requests a second at the peak")
    p.add_argument("--wait", type=seconds, default=0.02, help="longest wait (default: 20ms)")
    p.add_argument("--quantile", type=number(0, 1), default=0.99, help="of requests (default: 0.99)")
    p.add_argument("--efficiency", type=number(0, 1.0001), default=0.5, help="the share of the "
                   "bench's rate that requests reach, which have sockets and decoding as well (default: 0.5)")
    p.add_argument("--utilization", type=number(0, 1), default=0.7, help="how busy they may be (default: 0.7)")
    p.add_argument("--spare", type=int, default=1, help="more, for what restarts or dies (default: 1)")
    args = p.parse_args()
    one = [r for r in json.load(args.bench)["results"] if r["batch"] == 1]
    if not one:
        p.error("the bench has no results of batch 1")
    capacity = one[0]["images_per_second"] * args.efficiency
    found = plan(capacity, args.rate, args.wait, args.quantile, args.spare, args.utilization)
    print(f"{found.replicas} replicas of {one[0]['threads']} threads: {found.busy} are "
          f"{found.utilization:.0%} busy, {args.spare} to spare")
    print(f"each carries {capacity:.0f} requests/s; {found.waiting:.1%} wait, "
          f"{args.quantile:.0%} less than {found.wait * 1000:.1f} ms")


if __name__ == "__main__":
    main()
