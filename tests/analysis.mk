# What looks at the program from other sides than its tests do, each with one command:
#
#   make analyze            gcc's own analysis of every file, -fanalyzer
#   make msan               MemorySanitizer over the parts that do without other libraries
#   make valgrind           a session of serving under valgrind
#   make coverage           which lines the tests reach; every rt_fail() reached or not, in
#                           build/coverage/failures.txt
#   make soak TIME=1800     mixed traffic for so many seconds: answers, memory, descriptors

.PHONY: analyze msan valgrind coverage soak

CFLAGS.msan     := -O1 -DRT_COMPACT -fno-omit-frame-pointer -fsanitize=memory -fsanitize-memory-track-origins
CFLAGS.coverage := -O0 -fopenmp -DRT_COMPACT -DSV_INSTRUMENTED=1 --coverage -fprofile-update=atomic

# Objects, as the analysis is a part of compiling; nothing is linked. Its findings are errors.
ANALYZED := $(patsubst %.c,build/analyze/%.o,$(filter-out runtime/kernels/%,$(RUNTIME)) $(SERVER))
analyze: setup $(PROTO).h ## gcc -fanalyzer over runtime and server
	@$(MAKE) --no-print-directory -j$$(nproc) $(ANALYZED)
	@echo "$(words $(ANALYZED)) files: nothing found"

build/analyze/%.o: %.c Makefile tests/analysis.mk
	@mkdir -p $(@D)
	$(call shown,SCAN,$<)
	$(Q)gcc $(CPPFLAGS_ALL) -std=c11 -O1 -fopenmp -Werror -fanalyzer $(ANALYZER_QUIET) -c -o $@ $<

# Libraries would have to be instrumented, too: these tests use none but cmocka.
MSAN_TESTS ?= test_budget test_graph test_move test_numbers test_passes test_plan test_queue test_ops
msan: setup-test ## MemorySanitizer over the runtime's and the server's own parts
	@$(MAKE) --no-print-directory CC=clang MODE=msan -j$$(nproc) \
	    $(MSAN_TESTS:%=build/msan-clang/tests/%)
	@for t in $(MSAN_TESTS); do echo $$t; build/msan-clang/tests/$$t >build/msan-clang/$$t.log 2>&1 || \
	    { tail -40 build/msan-clang/$$t.log; exit 1; }; done

valgrind: all ## a session of serving under valgrind
	$(call install,valgrind)
	CONVD_BINARY=$(BIN) $(PYTHON) tests/valgrind.py

coverage: setup-test ## lines and failures that the tests reach
	@$(MAKE) --no-print-directory MODE=coverage -j$$(nproc) all load-programs-of-coverage
