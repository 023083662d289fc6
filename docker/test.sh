#!/bin/bash
# Builds the image from docker/Dockerfile and tests it, without a Docker engine: podman, buildah and
# runc from Debian, on a base that mmdebstrap makes. Needs root and namespaces; where they are not
# allowed it says so and ends well. The image of another architecture is cross-built; its kernels and
# its binary run under qemu-user. ARCHES=amd64 leaves that out. All of it is kept below build/image,
# so that a second run is short.
set -eu
cd "$(dirname "$0")/.."
here=$PWD
: "${PYTHON:=/usr/bin/python3}" "${ARCHES:=amd64 arm64}"
work=$here/build/image

skip() {
    echo "docker-test: skipped: $1"
    exit 0
}
[ "$(id -u)" = 0 ] || skip "it needs root for mmdebstrap and for control groups"
unshare --mount --pid --net --fork true 2>/dev/null || skip "namespaces are not allowed here"

# $@: those of these packages that are not there are installed.
install_packages() {
    local missing=
    for package; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
            missing="$missing $package"
    done
    [ -z "$missing" ] && return
    echo "installing:$missing"
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}
install_packages podman buildah runc mmdebstrap python3-pytest python3-requests python3-numpy
native=$(dpkg --print-architecture)
[ "$ARCHES" = "$native" ] || install_packages qemu-user-static

mkdir -p "$work"
store=(--root "$work/store" --runroot "$work/run")
base=docker.io/library/debian:bookworm-slim
# What debian:bookworm-slim leaves out, too; apt's caches of packages would be 80 MB more.
if ! podman "${store[@]}" image exists $base; then
    mmdebstrap --quiet --variant=minbase --aptopt='Dir::Cache::pkgcache ""' \
        --aptopt='Dir::Cache::srcpkgcache ""' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-include=/usr/share/doc/*/copyright' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' bookworm "$work/base.tar"
    podman "${store[@]}" import --quiet "$work/base.tar" $base >/dev/null
    rm "$work/base.tar"
fi

version=$(sed -n 's/^VERSION := //p' Makefile)

# $1: an architecture; further options. The build stages are of this machine's architecture:
# TARGETARCH alone differs.
build() {
    local arch=$1
    shift
    buildah "${store[@]}" bud --format docker --pull-never --isolation chroot --network host --layers \
        --build-arg TARGETARCH="$arch" --build-arg VERSION="$version" -f docker/Dockerfile "$@" . \
        >>"$work/$arch.log" 2>&1 || { tail -30 "$work/$arch.log"; exit 1; }
}

for arch in $ARCHES; do
    echo "building convd:$arch (its log: build/image/$arch.log)"
    : >"$work/$arch.log"
    build "$arch" -t "convd:$arch"
    if [ "$arch" != "$native" ]; then
        echo "checking its kernels under qemu"
        build "$arch" --target check
    fi
    rm -rf "$work/$arch.dir" "$work/$arch.root"
    podman "${store[@]}" push --quiet --compress "convd:$arch" "dir:$work/$arch.dir"
    mkdir "$work/$arch.root"
    container=$(buildah "${store[@]}" from --pull-never "convd:$arch")
    cp -a "$(buildah "${store[@]}" mount "$container")/." "$work/$arch.root"
    buildah "${store[@]}" rm "$container" >/dev/null
done

# Starts as quickly as anything can: what is left of a container's start is the container's.
cat >"$work/hello.c" <<'END'
#include <unistd.h>
int main(void) { return write(1, "x", 1) != 1; }
END
gcc -O2 -static -o "$work/hello" "$work/hello.c"
IMAGE_WORK=$work IMAGE_ARCHES=$ARCHES "$PYTHON" -m pytest -q -s -p no:cacheprovider docker/test_image.py
