#!/bin/sh
# Fails when an #include of ours points the wrong way. The rules are the table of the design:
# server -> runtime/rt.h -> runtime -> kernels; each library is seen by its own file only.
cd "$(dirname "$0")/.." || exit 1
bad=0

# forbid FILES PATTERN WHY: no file among FILES may have an #include that matches PATTERN.
forbid() {
    hits=$(grep -nE "^ *# *include *$2" $1 2>/dev/null)
    if [ -n "$hits" ]; then
        printf '%s\n' "$hits" | sed "s|$| <- $3|"
        bad=1
    fi
}

# except FILES NAMES...: FILES without those whose names match.
except() {
    files=$1
    shift
    for name in "$@"; do
        files=$(printf '%s\n' $files | grep -vE "^$name$")
    done
    printf '%s ' $files
}

server=$(ls server/*.c server/*.h)
runtime=$(find runtime -name '*.c' -o -name '*.h' -o -name '*.inc')
kernels=$(find runtime/kernels -type f)
everything="$server $runtime"

forbid "$runtime" '"server/' 'runtime does not know the server'
forbid "$server" '"runtime/(r[^t]|rt[^.]|[^r])' 'server includes runtime/rt.h only'
forbid "$server" '"proto/' 'only the import reads protobuf'
forbid "$kernels" '"runtime/[^k]' 'kernels include nothing above them'
forbid "$(except "$kernels" 'runtime/kernels/.*\.inc')" '<(x86intrin|[a-z]*mmintrin)' \
    'vector intrinsics belong to level.h' | grep -v 'level.h\|avx2.c\|avx512.c' && bad=1
forbid "$(except "$everything" 'runtime/import.*')" '"proto/' 'only the import reads protobuf'
forbid "$(except "$everything" 'server/http.c')" '<microhttpd.h>' 'only server/http.c talks HTTP'
forbid "$(except "$everything" 'runtime/parallel.c')" '<omp.h>' 'OpenMP belongs to parallel.c'
forbid "runtime/status.h runtime/tensor.h runtime/mem.h" '"' 'the ground floor stands alone'
if grep -nE '# *pragma +omp' $(except "$everything" 'runtime/parallel.c'); then
    echo 'OpenMP belongs to runtime/parallel.c'
    bad=1
fi
jansson=$(grep -lE '^# *include *<jansson.h>' $everything | grep -vE 'server/(codec|json|model_config|config)[a-z_]*\.[ch]')
if [ -n "$jansson" ]; then
    echo "$jansson: JSON belongs to the codec and the configuration"
    bad=1
fi
[ $bad = 0 ] && echo "layers: every include points down"
exit $bad
