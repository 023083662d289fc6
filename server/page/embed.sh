#!/bin/sh
# Prints the C of server/page.h's table for the files given. VERSION replaces @VERSION@ in them.
# Indentation goes, gzip does the rest: the sources stay readable.
set -eu

type_of() {
    case $1 in
    *.html) echo 'text/html; charset=utf-8' ;;
    *.css) echo 'text/css; charset=utf-8' ;;
    *.js) echo 'text/javascript; charset=utf-8' ;;
    *.json) echo 'application/json' ;;
    *.svg) echo 'image/svg+xml' ;;
    *) echo "embed.sh: $1: of what type?" >&2 && exit 1 ;;
    esac
}

echo '/* Made by server/page/embed.sh. */'
echo '#include "server/page.h"'
echo
echo '#include <string.h>'
table=
n=0
for file in "$@"; do
    type=$(type_of "$file")
    printf '\nstatic const unsigned char file%d[] = {' $n
    sed -e "s/@VERSION@/$VERSION/g" -e 's/^ *//' "$file" | gzip -9n | od -An -v -tu1 |
        sed -e 's/  */,/g' -e 's/^,//' -e 's/$/,/'
    echo '};'
    etag=$(sed "s/@VERSION@/$VERSION/g" "$file" | sha256sum | cut -c1-16)
    table="$table    { \"$(basename "$file")\", \"$type\", \"\\\"$etag\\\"\", file$n, sizeof file$n },
"
    n=$((n + 1))
done
printf '\nconst struct sv_page_file sv_page_files[] = {\n%s    { 0 },\n};\n' "$table"
cat <<'END'

const struct sv_page_file *sv_page_find(const char *name)
{
    for (const struct sv_page_file *f = sv_page_files; f->name != NULL; f++)
        if (strcmp(f->name, name) == 0)
            return f;
    return NULL;
}
END
