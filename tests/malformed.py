#!/usr/bin/env python3
"""Model files that are wrong in a known way: each must be refused with a sentence, or load where its
description allows that, without a crash, a hang or more than 300 MB of memory.

    tests/malformed.py [CONVD] [FOLDER]     FOLDER holds meta.json and the files it lists
"""
import json
import os
import re
import resource
import signal
import subprocess
import sys

MOST_MEMORY = 300 << 20
MOST_SECONDS = 60  # of computing, whatever else the machine does
PATIENCE = 900


def run(convd, path):
    """Exit status, standard error and peak memory of loading the file."""
    pid_before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    process = subprocess.Popen([convd, "inspect", path, "--json"], stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True, errors="replace",
                               preexec_fn=lambda: resource.setrlimit(
                                   resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS)))
    try:
        _, text = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None, "hangs", 0
    if process.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return None, "computes without end", 0
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return process.returncode, text.strip(), peak * 1024 if peak > pid_before else 0


def judge(case, status, text, peak, sanitized):
    expect = case["expect"]
    may_load = not expect.startswith("reject with") and not expect.startswith("reject (")
    must_load = expect.startswith("loads")
    if status is None:
        return "it hangs"
    if status < 0 or status > 2 or "Sanitizer" in text or "runtime error" in text:
        return f"it crashes (status {status}): {text[-300:]}"
    if peak > MOST_MEMORY and not sanitized and "memory" not in case:
        return f"it takes {peak >> 20} MB"
    if status == 0 and not may_load:
        return "it is accepted"
    if status != 0 and must_load:
        return f"it is refused: {text}"
    if status != 0 and (len(text) < 20 or "\n" in text):
        return f"the error is no sentence: {text!r}"
    return None


def main():
    convd = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("CONVD_BINARY", "build/convd")
    data = os.environ.get("CONVD_DATA", "../shared/data")
    folder = sys.argv[2] if len(sys.argv) > 2 else os.path.join(data, "malformed")
    if not os.path.isfile(os.path.join(folder, "meta.json")):
        print(f"{folder} is not there: 0 passed, 0 failed, 1 skipped")
        return 0
    with open(os.path.join(folder, "meta.json")) as f:
        cases = json.load(f)
    sanitized = re.search(rb"__[am]san_init", open(convd, "rb").read())
    failed = 0
    for case in cases:
        path = os.path.join(folder, case["file"])
        status, text, peak = run(convd, path)
        wrong = judge(case, status, text, peak, sanitized)
        failed += wrong is not None
        if wrong is not None or os.environ.get("VERBOSE"):
            print(f"{'FAIL' if wrong else 'ok  '} {case['file']} ({case['what']}): {wrong or text}")
    print(f"{len(cases) - failed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
