#!/bin/bash
# sbom.sh ROOT VERSION: reads lines "DYNAMIC_LINK FILE" and "STATIC_LINK FILE", finds the Debian
# packages that the files are from, puts their copyright below ROOT/usr/share/doc (once for all
# packages of a source), and prints what the image holds as SPDX 2.3 JSON.
set -eu
root=$1 version=$2
created=$(date -u -d "@${SOURCE_DATE_EPOCH:-0}" +%Y-%m-%dT%H:%M:%SZ)
declare -A seen kept
packages= relations= identity=

# The package of a file, which dpkg may know by the name it had before /usr was merged.
owner() {
    local real found
    real=$(realpath "$1")
    found=$(dpkg-query -S "$real" 2>/dev/null || dpkg-query -S "${real#/usr}" 2>/dev/null ||
        dpkg-query -S "/usr$real" 2>/dev/null) || { echo "$1: is from no package" >&2; return 1; }
    found=${found%%$'\n'*}
    echo "${found%: *}"
}

while read -r how file; do
    package=$(owner "$file")
    [ -n "${seen[$package]:-}" ] && continue
    seen[$package]=1
    IFS='|' read -r name number arch source source_number < <(dpkg-query -W \
        -f '${Package}|${Version}|${Architecture}|${source:Package}|${source:Version}\n' "$package")
    id="SPDXRef-$name"
    identity+="$package $number;"
    packages+=",
    {\"SPDXID\": \"$id\", \"name\": \"$name\", \"versionInfo\": \"$number\",
     \"supplier\": \"Organization: Debian\", \"downloadLocation\": \"NOASSERTION\", \"filesAnalyzed\": false,
     \"licenseConcluded\": \"NOASSERTION\", \"licenseDeclared\": \"NOASSERTION\", \"copyrightText\": \"NOASSERTION\",
     \"sourceInfo\": \"$source $source_number\",
     \"externalRefs\": [{\"referenceCategory\": \"PACKAGE-MANAGER\", \"referenceType\": \"purl\",
       \"referenceLocator\": \"pkg:deb/debian/${name//+/%2B}@${number//+/%2B}?arch=$arch&distro=bookworm\"}]}"
    relations+=",
    {\"spdxElementId\": \"SPDXRef-convd\", \"relationshipType\": \"$how\", \"relatedSpdxElement\": \"$id\"}"
    copyright=/usr/share/doc/$name/copyright
    install -d "$root/usr/share/doc/$name"
    same=${kept[$source]:-}
    if [ -n "$same" ] && cmp -s "$root/usr/share/doc/$same/copyright" "$copyright"; then
        ln -s "../$same/copyright" "$root$copyright"
    else
        install -m 644 "$copyright" "$root$copyright"
        kept[$source]=$name
    fi
done

cat <<END
{
  "spdxVersion": "SPDX-2.3",
  "dataLicense": "CC0-1.0",
  "SPDXID": "SPDXRef-DOCUMENT",
  "name": "convd-$version",
  "documentNamespace": "https://spdx.org/spdxdocs/convd-$version-$(echo "$identity" | sha256sum | cut -c1-32)",
  "creationInfo": {"created": "$created", "creators": ["Tool: docker/sbom.sh"]},
  "documentDescribes": ["SPDXRef-convd"],
  "packages": [
    {"SPDXID": "SPDXRef-convd", "name": "convd", "versionInfo": "$version",
     "downloadLocation": "NOASSERTION", "filesAnalyzed": false, "licenseConcluded": "Apache-2.0",
     "licenseDeclared": "Apache-2.0", "copyrightText": "NOASSERTION",
     "checksums": [{"algorithm": "SHA256", "checksumValue": "$(sha256sum "$root/usr/bin/convd" | cut -d' ' -f1)"}]}$packages
  ],
  "relationships": [
    {"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-convd"}$relations
  ]
}
END
