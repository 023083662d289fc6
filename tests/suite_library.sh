#!/bin/sh
# make install into a folder of its own; the example is compiled against what lies there, both ways,
# and run; manual and completions are what their programs take.
set -eu
cd "$(dirname "$0")/.."
: "${B:=build/release}" "${BIN:=build/convd}" "${MODE:=release}" "${CC:=gcc}"
case $MODE in
asan | tsan) echo "a sanitized library needs its runtime: skipped" && exit 0 ;;
esac
stage=$(realpath "$B")/stage
rm -rf "$stage"
MAKEFLAGS='' make -s install DESTDIR="$stage" PREFIX=/usr LIBDIR=/usr/lib B="$B" BIN="$BIN" \
    MODE="$MODE" CC="$CC"
export PKG_CONFIG_PATH="$stage/usr/lib/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$stage"

cc -std=c11 -Wall -Wextra -Werror runtime/examples/run.c $(pkg-config --cflags --libs convd) \
    -o "$stage/shared"
LD_LIBRARY_PATH="$stage/usr/lib" "$stage/shared" models/fashion/model.onnx > "$stage/shared.txt"
[ "$(wc -l < "$stage/shared.txt")" = 10 ]

# Others' libraries are not below the folder.
static=$(PKG_CONFIG_SYSROOT_DIR='' pkg-config --libs libprotobuf-c)
openmp=$(case $CC in *clang*) echo -l:libomp.so.5 ;; *) echo -fopenmp ;; esac)
cc -std=c11 runtime/examples/run.c $(pkg-config --cflags convd) "$stage/usr/lib/libconvd.a" $static \
    $openmp -pthread -lm -o "$stage/static"
"$stage/static" models/fashion/model.onnx > "$stage/static.txt"
cmp "$stage/shared.txt" "$stage/static.txt"

# Only what rt.h and the headers it includes declare can be seen.
nm -D --defined-only "$stage"/usr/lib/libconvd.so | awk '{ print $3 }' | while read -r name; do
    case $name in rt_*) grep -q "\b$name\b" runtime/rt.h runtime/mem.h runtime/status.h runtime/tensor.h ;;
    *) false ;; esac || { echo "$name is visible and in no public header"; exit 1; }
done

# The installed binary finds the installed model.
"$stage/usr/bin/convd" inspect "$stage/usr/share/convd/models/fashion" > /dev/null

# The manual and the completions.
"$stage/usr/bin/convd" man | { command -v man > /dev/null && man -l --warnings - 2>&1 > /dev/null || cat > /dev/null; } |
    grep . && exit 1
bash -n "$stage/usr/share/bash-completion/completions/convd"
if command -v zsh > /dev/null; then
    zsh -n "$stage/usr/share/zsh/site-functions/_convd"
fi
echo "1 passed"
