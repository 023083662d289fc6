#!/bin/sh
# Runs every test of one build and sums them up. B: its folder, BIN: its convd, PYTHON: which one,
# MODE and CC: what it was made with, SKIP: suites to leave out ("check_kernels torchvision").
# Each suite's own output goes to $B/log/<suite>.txt and is shown when the suite fails.
cd "$(dirname "$0")/.." || exit 1
: "${B:=build/release}" "${BIN:=build/convd}" "${PYTHON:=/usr/bin/python3}" "${SKIP:=}" \
    "${MODE:=release}" "${CC:=gcc}"
export B BIN MODE CC PYTHON CONVD_BINARY="$BIN"
mkdir -p "$B/log"
passed=0
failed=0

# suite NAME COMMAND...: runs it; its numbers are the last "N passed" and "N failed" it prints, or
# one for the whole where it prints none.
suite() {
    name=$1
    shift
    case " $SKIP " in *" $name "*) return ;; esac
    log=$B/log/$name.txt
    printf '%-28s' "$name"
    timeout 1800 "$@" >"$log" 2>&1 # a test that hangs fails
    status=$?
    ok=$(grep -oE '[0-9]+ passed|PASSED *\] *[0-9]+ test' "$log" | tail -1 | grep -oE '[0-9]+')
    bad=$(grep -oE '[0-9]+ failed|FAILED *\] *[0-9]+ test' "$log" | tail -1 | grep -oE '[0-9]+')
    if [ $status = 0 ]; then
        : "${ok:=1}"
        bad=0
    else
        : "${ok:=0}" "${bad:=1}"
        [ "$bad" = 0 ] && bad=1
    fi
    passed=$((passed + ok))
    failed=$((failed + bad))
    if [ $status = 0 ]; then
        skipped=$(grep -oE '[0-9]+ skipped' "$log" | tail -1)
        echo "$ok passed${skipped:+, $skipped}"
    else
        echo "$ok passed, $bad FAILED (status $status), from $log:"
        tail -40 "$log" | sed 's/^/    /'
    fi
}

suite layers tests/layers.sh
for t in "$B"/tests/check_* "$B"/tests/test_*; do
    case $t in *.o | *.d) continue ;; esac
    [ -x "$t" ] && suite "$(basename "$t")" "$t"
done
for t in tests/suite_*.sh; do
    [ -x "$t" ] && suite "$(basename "$t" .sh | sed s/suite_//)" "$t"
done
suite pytest "$PYTHON" -m pytest -q -p no:cacheprovider tests

echo "$passed passed, $failed failed"
[ $failed = 0 ]
