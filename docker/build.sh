#!/bin/sh
# build.sh [OPTION...]: builds the image "convd" with whichever of docker, podman and buildah is
# there; options, as --platform linux/arm64 or --target test, go to it.
set -eu
cd "$(dirname "$0")/.."
version=$(sed -n 's/^VERSION := //p' Makefile)
revision=$(git describe --always --dirty 2>/dev/null || echo unknown)
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
for tool in docker podman buildah; do
    command -v $tool >/dev/null || continue
    case $tool in
        docker) format= ;;
        *) format='--format docker' ;; # OCI's own has no HEALTHCHECK
    esac
    # shellcheck disable=SC2086
    exec $tool build $format -f docker/Dockerfile -t "${IMAGE:-convd}" \
        --build-arg VERSION="$version" --build-arg REVISION="$revision" \
        --build-arg SOURCE_DATE_EPOCH="$epoch" "$@" .
done
echo "docker, podman or buildah is needed" >&2
exit 1
