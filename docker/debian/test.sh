#!/bin/sh
# test.sh VERSION ARCH: what a release promises, of the tarball and the package.
set -eu
version=$1 arch=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
pass() { passed=$((passed + 1)); echo "  ok  $1"; }
fail() { echo "  FAILED  $1" >&2; exit 1; }

# Another clone, later, in another place, by another umask: the same bytes.
sum() { sha256sum "$1" | cut -d' ' -f1; }
make -s dist
first=$(sum "build/convd-$version.tar.gz")
git clone -q . "$work/clone"
(umask 077 && cd "$work/clone" && make -s dist)
[ "$first" = "$(sum "$work/clone/build/convd-$version.tar.gz")" ] || fail "two tarballs differ"
pass "two tarballs are bit-identical: $first"

deb=build/convd_$version-1_$arch.deb
first=$(sum "$deb")
docker/debian/build.sh "$version" "$arch" >/dev/null
[ "$first" = "$(sum "$deb")" ] || fail "two packages differ"
pass "two packages are bit-identical"

# Unpacked by dpkg into a folder of its own, with this machine's libraries around it.
mkdir -p "$work/root"
dpkg-deb -x "$deb" "$work/root"
[ "$("$work/root/usr/bin/convd" --version)" = "convd $version" ] || fail "convd --version"
pass "the package's convd says its version"
CONVD_CONFIG=$work/root/etc/convd/convd.json "$work/root/usr/bin/convd" serve --print-config >/dev/null ||
    fail "its settings"
pass "its settings file is read"
grep -q '^/etc/convd/convd.json$' build/deb/root/DEBIAN/conffiles || fail "conffiles"
(cd "$work/root" && md5sum --quiet -c "$OLDPWD/build/deb/root/DEBIAN/md5sums") || fail "md5sums"
pass "its lists are right"

if command -v systemd-analyze >/dev/null; then
    exposure=$(systemd-analyze security --offline=true --threshold=20 \
        "$work/root/lib/systemd/system/convd.service" | tail -1) || fail "the unit is exposed: $exposure"
    pass "${exposure#*→ }"
else
    echo "  skipped  systemd-analyze is not there"
fi
if command -v lintian >/dev/null; then
    lintian --fail-on error --suppress-tags initial-upload-closes-no-bugs "$deb" || fail "lintian"
    pass "lintian has no errors"
else
    echo "  skipped  lintian is not there"
fi
echo "$passed passed"
