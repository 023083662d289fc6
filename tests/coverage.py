#!/usr/bin/env python3
"""Reads what a build with --coverage left, prints the share of lines that ran in each folder, and
writes every refusal (rt_fail() and its like) to FOLDER/failures.txt: reached by a test; not reached,
for a reason that tests/unreached.txt gives; or MISSING, which is an error.

    tests/coverage.py [FOLDER]      FOLDER: build/coverage"""

import collections
import gzip
import json
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
FAILURE = re.compile(r"\b(rt_fail|rt_fail_nomem|sv_reply_status)\s*\(")
REASONS = pathlib.Path(__file__).with_name("unreached.txt")


def counts(folder):
    """{file: {line: runs}}, of all objects that a file was compiled into."""
    found = collections.defaultdict(collections.Counter)
    data = [p for p in folder.rglob("*.gcda") if "tests" not in p.relative_to(folder).parts]
    with tempfile.TemporaryDirectory() as work:
        for i in range(0, len(data), 40):
            subprocess.run(["gcov", "--json-format", "--hash-filenames",
                            *(str(p.resolve()) for p in data[i:i + 40])],
                           cwd=work, check=True, capture_output=True)
        for report in pathlib.Path(work).glob("*.gcov.json.gz"):
            for file in json.loads(gzip.decompress(report.read_bytes()))["files"]:
                path = pathlib.PurePath(file["file"])
                name = str(path.relative_to(ROOT) if path.is_absolute() and
                           path.is_relative_to(ROOT) else path)
                name = name.removeprefix("./")
                if name.startswith(("server/", "runtime/")):
                    for line in file["lines"]:
                        found[name][line["line_number"]] += line["count"]
    return found


def reasons():
    """[[file, part of the statement, reason, whether it stands for anything]]."""
    found, reason, fresh = [], "", True
    for line in REASONS.read_text().splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if line.startswith(" "):
            file, part = line.strip().split(": ", 1)
            found.append([file, part, reason, False])
            fresh = True
        else:
            reason = line if fresh else f"{reason} {line}"
            fresh = False
    return found


def statement(lines, number):
    """From that line (1 is the first) to the semicolon that ends it, as one line."""
    text = ""
    for line in lines[number - 1:]:
        text += " " + line.strip()
        if line.rstrip().endswith((";", "{", "}")):
            break
    return re.sub(r'" "|\s+', lambda m: "" if m.group() == '" "' else " ", text).strip()


def why_not(known, name, text):
    """The reason that is given for it; None: there is none."""
    for entry in known:
        if entry[0] == name and entry[1] in text:
            entry[3] = True
            return entry[2]
    return None


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build/coverage").resolve()
    found = counts(folder)
    if not found:
        sys.exit(f"{folder} holds no coverage: make coverage")
    known = reasons()
    shares = collections.defaultdict(lambda: [0, 0])
    refusals = collections.defaultdict(list)
    for name in sorted(found):
        lines = found[name]
        share = shares[str(pathlib.PurePath(name).parent)]
        share[0] += sum(n > 0 for n in lines.values())
        share[1] += len(lines)
        source = (ROOT / name).read_text().splitlines()
        for number, text in enumerate(source, 1):
            if FAILURE.search(text) and number in lines:
                text = statement(source, number)
                reason = None if lines[number] else why_not(known, name, text)
                kind = "reached" if lines[number] else "reason" if reason else "MISSING"
                refusals[kind].append(f"{kind:8}{name}:{number}: {text}"
                                      + (f" -- {reason}" if reason else ""))
    (folder / "failures.txt").write_text(
        "".join(f"{line}\n" for kind in sorted(refusals) for line in refusals[kind]))
    for part, (ran, n) in sorted(shares.items()):
        print(f"{part}: {ran} of {n} lines, {100 * ran / n:.1f} %")
    for file, part, _, used in known:
        if not used:
            print(f"{REASONS.name}: {file}: {part}: was reached, or is gone")
    print("\n".join(refusals["MISSING"]))
    print(f"{len(refusals['reached'])} of {sum(map(len, refusals.values()))} refusals were reached, "
          f"{len(refusals['reason'])} have a reason not to be, {len(refusals['MISSING'])} are missing: "
          f"{folder / 'failures.txt'}")
    return len(refusals["MISSING"]) > 0


if __name__ == "__main__":
    sys.exit(main())
