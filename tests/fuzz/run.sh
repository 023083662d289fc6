#!/bin/sh
# run.sh BINARY TARGET SECONDS: fuzzes from the committed seeds and whatever else is at hand, on one
# core. Grows build/fuzz-corpus/TARGET; findings go to build/fuzz-found/TARGET-*.
set -eu
cd "$(dirname "$0")/../.."
binary=$1 target=$2 seconds=$3
corpus=build/fuzz-corpus/$target
mkdir -p "$corpus" build/fuzz-found
set -- "$corpus"
[ -d "tests/fuzz/seeds/$target" ] && set -- "$@" "tests/fuzz/seeds/$target"
max_len=4096
timeout=120 # of the wall clock, on cores that others use, too
case $target in
model)
    max_len=6000
    # Every operator has small models among ONNX's own tests.
    all=build/fuzz-corpus/model-seeds
    if [ ! -d $all ]; then
        mkdir -p $all
        find models/tiny /usr/share/libonnx-testdata/data/node -name model.onnx -size -6k \
            2>/dev/null | while read -r m; do
            folder=${m%/model.onnx}
            cp "$m" "$all/${folder##*/}.onnx"
        done
    fi
    set -- "$@" $all
    ;;
image) max_len=16384 ;;
esac
dict=tests/fuzz/$target.dict
[ -f "$dict" ] && set -- "$@" "-dict=$dict"
echo "fuzzing $target for $seconds s"
ASAN_OPTIONS=quarantine_size_mb=16:${ASAN_OPTIONS-} exec "$binary" "$@" "-max_total_time=$seconds" "-max_len=$max_len" "-timeout=$timeout" \
    -rss_limit_mb=2048 -malloc_limit_mb=1024 -print_final_stats=1 -reload=0 \
    "-artifact_prefix=build/fuzz-found/$target-"
