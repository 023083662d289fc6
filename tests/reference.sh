#!/bin/sh
# Puts what `BIN man --markdown` prints between the markers of FILE. With --check it only says
# whether that would change anything.
set -eu
check=
[ "$1" = --check ] && check=1 && shift
bin=$1 file=$2
new=$(mktemp)
trap 'rm -f "$new"' EXIT
sed '/<!-- options -->/q' "$file" > "$new"
echo >> "$new"
"$bin" man --markdown >> "$new"
sed -n '/<!-- end of options -->/,$p' "$file" >> "$new"
if [ -n "$check" ]; then
    diff -u "$file" "$new" || { echo "$file: the options' reference is old: make reference"; exit 1; }
else
    cat "$new" > "$file"
fi
