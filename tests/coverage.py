#!/usr/bin/env python3
"""Reads what a build with --coverage left, prints the share of lines that ran in each folder, and
writes every rt_fail() with whether it was reached to FOLDER/failures.txt.

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


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build/coverage").resolve()
    found = counts(folder)
    if not found:
        sys.exit(f"{folder} holds no coverage: make coverage")
    shares = collections.defaultdict(lambda: [0, 0])
    reached, all_failures = 0, []
    for name in sorted(found):
        lines = found[name]
        share = shares[str(pathlib.PurePath(name).parent)]
        share[0] += sum(n > 0 for n in lines.values())
        share[1] += len(lines)
        for number, text in enumerate((ROOT / name).read_text().splitlines(), 1):
            if FAILURE.search(text) and number in lines:
                reached += lines[number] > 0
                all_failures.append(f"{'reached' if lines[number] else 'NOT    '}  "
                                    f"{name}:{number}: {text.strip()}")
    (folder / "failures.txt").write_text("\n".join(all_failures) + "\n")
    for part, (ran, n) in sorted(shares.items()):
        print(f"{part}: {ran} of {n} lines, {100 * ran / n:.1f} %")
    print(f"{reached} of {len(all_failures)} refusals were reached: {folder / 'failures.txt'}")


if __name__ == "__main__":
    main()
