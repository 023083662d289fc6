#!/bin/sh
# root.sh BINARY ROOT VERSION: lays out below ROOT what the image holds: the binary, the shared
# libraries it needs (for whatever architecture it is), the bundled model, licences, and a list of
# all of it as SPDX. Nothing of the other architecture is run.
set -eu
binary=$1 root=$2 version=$3
here=$(dirname "$0")

name() { # CLASS FILE: libraries that it needs, or its program interpreter
    readelf -dl "$2" | sed -n "s/.*$1: \[\?\([^]]*\)\]\?.*/\1/p"
}

loader=$(name 'program interpreter' "$binary")
case $loader in
    *x86-64*) triplet=x86_64-linux-gnu ;;
    *aarch64*) triplet=aarch64-linux-gnu ;;
    *) echo "$binary: '$loader' is the loader of no known architecture" >&2; exit 1 ;;
esac

find_library() {
    for folder in /lib/$triplet /usr/lib/$triplet; do
        [ -e "$folder/$1" ] && echo "$folder/$1" && return
    done
    echo "$binary: $1 is not there" >&2
    exit 1
}

rm -rf "$root"
install -d "$root/usr/bin" "$root/lib/$triplet" "$root$(dirname "$loader")" "$root/etc" \
    "$root/usr/share/convd/models/fashion" "$root/usr/share/doc"
install -m 755 "$binary" "$root/usr/bin/convd"
"$(command -v $triplet-strip || echo strip)" "$root/usr/bin/convd"

# libgcc_s is what pthread_exit() loads when a thread ends.
libraries=
queue="$(name 'Shared library' "$binary") libgcc_s.so.1"
while [ -n "$queue" ]; do
    next=
    for library in $queue; do
        case " $libraries " in *" $library "*) continue ;; esac
        libraries="$libraries $library"
        file=$(find_library "$library")
        next="$next $(name 'Shared library' "$file")"
        case $library in
            ld-linux*) install -m 755 "$file" "$root$loader" ;;
            *) install -m 644 "$file" "$root/lib/$triplet/$library" ;;
        esac
    done
    queue=$(echo $next)
done

for file in model.onnx labels.txt config.json README.md; do
    install -m 644 "models/fashion/$file" "$root/usr/share/convd/models/fashion"
done
echo 'nonroot:x:65532:65532::/:/usr/sbin/nologin' > "$root/etc/passwd"
echo 'nonroot:x:65532:' > "$root/etc/group"
install -d "$root/usr/share/doc/convd"
install -m 644 LICENSE "$root/usr/share/doc/convd/copyright"

# What is in it: shared libraries, and archives of which the linker took something.
{
    for library in $libraries; do
        echo "DYNAMIC_LINK $(find_library "$library")"
    done
    sed -n 's/^\(\/[^ (]*\.a\)(.*/STATIC_LINK \1/p' "$binary.map" | sort -u
} | "$here/sbom.sh" "$root" "$version" > "$root/usr/share/convd/sbom.spdx.json"
find "$root" -exec touch -h -d "@${SOURCE_DATE_EPOCH:-0}" {} +
