#!/bin/sh
# build.sh VERSION ARCH: build/convd_VERSION-1_ARCH.deb of the release build, assembled in build/deb.
set -eu
version=$1 arch=$2
here=docker/debian
root=build/deb/root
rm -rf build/deb
install -d "$root/DEBIAN" "$root/etc/convd" "$root/lib/systemd/system" "$root/usr/bin" \
    "$root/usr/share/doc/convd" "$root/usr/share/man/man1" "$root/usr/share/convd/models/fashion" \
    "$root/usr/share/bash-completion/completions" "$root/usr/share/zsh/vendor-completions"

strip --remove-section=.comment --remove-section=.note -o "$root/usr/bin/convd" build/convd
install -m 644 $here/convd.service "$root/lib/systemd/system"
install -m 644 $here/convd.json "$root/etc/convd"
for file in model.onnx labels.txt config.json README.md; do
    install -m 644 "models/fashion/$file" "$root/usr/share/convd/models/fashion"
done
build/convd completion bash > "$root/usr/share/bash-completion/completions/convd"
build/convd completion zsh > "$root/usr/share/zsh/vendor-completions/_convd"
build/convd man | gzip -9n > "$root/usr/share/man/man1/convd.1.gz"
{
    echo "convd ($version-1) unstable; urgency=medium"
    printf '\n  * Release %s; what is new stands in CHANGELOG.md.\n\n' "$version"
    echo " -- $(sed -n 's/^Maintainer: //p' $here/control.in)  $(date -R -u -d "@$SOURCE_DATE_EPOCH")"
} | gzip -9n > "$root/usr/share/doc/convd/changelog.Debian.gz"
gzip -9nc CHANGELOG.md > "$root/usr/share/doc/convd/changelog.gz"
cat > "$root/usr/share/doc/convd/copyright" <<END
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: the convd maintainers
License: Apache-2.0
 On Debian systems the text of this licence is in
 /usr/share/common-licenses/Apache-2.0.
END

echo /etc/convd/convd.json > "$root/DEBIAN/conffiles"
for script in postinst prerm postrm; do
    install -m 755 $here/$script "$root/DEBIAN"
done
# dpkg-shlibdeps wants a source package around it.
mkdir -p build/deb/debian
printf 'Source: convd\n\nPackage: convd\nArchitecture: any\n' > build/deb/debian/control
depends=$(cd build/deb && dpkg-shlibdeps -O root/usr/bin/convd 2>/dev/null | sed 's/^shlibs:Depends=//')
size=$(du -sk --exclude=DEBIAN "$root" | cut -f1)
sed "s|@VERSION@|$version|;s|@ARCH@|$arch|;s|@SIZE@|$size|;s|@DEPENDS@|$depends, init-system-helpers (>= 1.54)|" \
    $here/control.in > "$root/DEBIAN/control"
(cd "$root" && find usr lib -type f | LC_ALL=C sort | xargs md5sum > DEBIAN/md5sums)
chmod -R u=rwX,go=rX "$root"
chmod 755 "$root/DEBIAN/postinst" "$root/DEBIAN/prerm" "$root/DEBIAN/postrm"
find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group --build "$root" "build/convd_$version-1_$arch.deb"
