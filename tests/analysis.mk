# What looks at the program from other sides than its tests do, each with one command:
#
#   make analyze            gcc's own analysis of every file, -fanalyzer
#   make valgrind           a session of serving under valgrind
#   make coverage           which lines the tests reach; every rt_fail() reached or not, in
#                           build/coverage/failures.txt
#   make msan               models on each level of kernels, broken ones, and suites of the runtime under
#                           MemorySanitizer
#   make mutants            kernels broken on purpose, a mistake at a time: each has to be noticed
#   make soak TIME=1800     mixed traffic for so many seconds: answers, memory, descriptors

.PHONY: analyze valgrind coverage msan mutants soak

CFLAGS.coverage := -Og -fopenmp -DRT_COMPACT -DSV_INSTRUMENTED=1 --coverage -fprofile-update=atomic
# Kernels refuse nothing, and counting their lines would take most of the time.
$(B)/runtime/kernels/%.o: CFLAGS.coverage := -O2 -fopenmp -DRT_COMPACT

# Objects, as the analysis is a part of compiling; nothing is linked. Its findings are errors.
ANALYZED := $(patsubst %.c,build/analyze/%.o,$(filter-out runtime/kernels/%,$(RUNTIME)) $(SERVER))
analyze: setup $(PROTO).h ## gcc -fanalyzer over runtime and server
	@$(MAKE) --no-print-directory -j$$(nproc) $(ANALYZED)
	@echo "$(words $(ANALYZED)) files: nothing found"

# What it cannot see, as it follows no table of functions and no invariant of a struct:
NULLS := -Wno-analyzer-null-dereference -Wno-analyzer-null-argument
build/analyze/runtime/import_call.o: ANALYZER_QUIET := $(NULLS)     # attr was found by its name
build/analyze/runtime/import_tensor.o: ANALYZER_QUIET := $(NULLS)   # rt_fail() never returns RT_OK
build/analyze/runtime/ops/gemm_float.o: ANALYZER_QUIET := $(NULLS)  # scratch is there where asked for
build/analyze/runtime/ops/op.o: ANALYZER_QUIET := $(NULLS) -Wno-analyzer-use-of-uninitialized-value # min_in; own[0..rank)
build/analyze/server/cmd_run.o: ANALYZER_QUIET := $(NULLS)          # RT_OK comes with a feed
build/analyze/server/options.o: ANALYZER_QUIET := $(NULLS)          # options come from a table
build/analyze/server/codec_request.o: ANALYZER_QUIET := $(NULLS)    # in is not NULL: checked above

build/analyze/%.o: %.c Makefile tests/analysis.mk
	@mkdir -p $(@D)
	$(call shown,SCAN,$<)
	$(Q)gcc $(CPPFLAGS_ALL) -std=c11 -O1 -fopenmp -Werror -fanalyzer $(ANALYZER_QUIET) -c -o $@ $<

valgrind: all ## a session of serving under valgrind
	$(call install,valgrind)
	CONVD_BINARY=$(BIN) $(PYTHON) tests/valgrind.py

# Suites that compare millions of numbers take too long unoptimized.
coverage: setup-test ## the lines and refusals that the tests reach: build/coverage/failures.txt
	@$(MAKE) --no-print-directory SKIP="check_kernels check_winograd test_invariance pillow torchvision library" \
	    MODE=coverage test || echo 'coverage: not every test passed' >&2
	$(PYTHON) tests/coverage.py build/coverage

# Every node test of ONNX and the small networks on each level of kernels, models that are broken, and
# the suites of C that need no library beyond what runtime/mem.h and tests/pictures.h tell of: not those
# of JSON and HTTP (Jansson and libmicrohttpd write unseen), of integers in regions (unset bytes times a
# weight of 0) and of resizing (vectors that reach past a row). Memory of a session, and of a value when
# its time begins, is taken for unwritten again (runtime/session.c).
MSAN_MODELS := $(wildcard /usr/share/libonnx-testdata/data/node) $(wildcard models/tiny/*/)
MSAN_SUITES := batcher budget compare compress denormals exact graph image import import_bounds load mem move \
    npy numbers ops passes placement plan queue refused_requests refused_runs registry rehearsal
msan: setup-test ## models, and suites of the runtime, under MemorySanitizer
	@$(MAKE) --no-print-directory MODE=msan -j$$(nproc) all \
	    $(MSAN_SUITES:%=build/msan-clang/tests/test_%)
	@for isa in scalar avx2 avx512; do \
	    RT_ISA=$$isa build/msan-clang/convd test --quiet $(MSAN_MODELS) || exit 1; \
	done
	BIN=build/msan-clang/convd tests/suite_malformed.sh
	@for t in $(MSAN_SUITES); do \
	    build/msan-clang/tests/test_$$t >build/msan-clang/test_$$t.txt 2>&1 || \
	        { tail -40 build/msan-clang/test_$$t.txt; exit 1; }; \
	    echo "test_$$t: $$(grep -oE '[0-9]+ test\(s\)\.$$' build/msan-clang/test_$$t.txt | tail -1)"; \
	done

mutants: ## break kernels on purpose, one mistake at a time: the checks have to notice each
	$(call install,$(BUILD_PACKAGES) libcmocka-dev)
	@$(MAKE) --no-print-directory -j$$(nproc) $(addprefix $(B)/tests/,check_kernels check_winograd check_integers test_ops)
	B=$(B) CC=$(CC) $(PYTHON) tests/mutants.py

# Seconds where TIME is given: the load generator has a default of its own for it.
soak: all ## mixed traffic for TIME=60 seconds: every answer checked, memory and descriptors flat
	$(call install,python3-numpy python3-requests)
	CONVD_BINARY=$(BIN) $(PYTHON) tests/soak.py $(if $(filter file default,$(origin TIME)),60,$(TIME))
