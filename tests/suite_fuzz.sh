#!/bin/sh
# Every fuzz target on its seeds and on what was found with it, and a few random networks.
: "${B:=build/release}"
passed=0
# replay TARGET FILE...: the suite ends with the first that fails.
replay() {
    target=$1
    shift
    n=$("$B/tests/fuzz/replay_$target" "$@" 2>&1) || {
        printf '%s\n' "$n" | tail -30
        echo "$target failed"
        exit 1
    }
    n=$(printf '%s\n' "$n" | tail -1 | grep -oE '[0-9]+')
    echo "$target: $n inputs"
    passed=$((passed + n))
}
for seeds in tests/fuzz/seeds/*; do
    target=$(basename "$seeds")
    [ "$target" = differential ] || replay "$target" "$seeds"
done
replay model models/tiny/*/model.onnx
[ ! -d tests/fuzz/seeds/differential ] || set -- tests/fuzz/seeds/differential/*.onnx
n=$("$B/tests/fuzz/differential" "$@" --count "${FUZZ_SEEDS:-40}" --found "$B/fuzz-found") || {
    printf '%s\n' "$n"
    exit 1
}
printf '%s\n' "$n"
passed=$((passed + $(printf '%s\n' "$n" | tail -1 | grep -oE '^[0-9]+')))
echo "$passed passed"
