#!/bin/sh
# ONNX's own operator tests, from Debian's libonnx-testdata and, where the folder with them is at
# hand, of a newer release: what is supported must be right, the rest must be refused by name.
: "${BIN:=build/convd}" "${CONVD_DATA:=../shared/data}"
data=/usr/share/libonnx-testdata/data
newer=$CONVD_DATA/conformance/node_tests_cnn_v1.22.0.tar.xz
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
set --
if [ -d $data/node ]; then
    set -- $data/node $data/pytorch-converted $data/pytorch-operator
else
    echo "libonnx-testdata is not installed"
fi
if [ -f "$newer" ]; then
    tar xf "$newer" -C "$work" || exit 1
    set -- "$@" "$work"
fi
if [ $# = 0 ]; then
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
"$BIN" test --quiet "$@"
