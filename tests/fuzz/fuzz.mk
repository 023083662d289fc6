# Fuzzing: every door of the program, a target each (tests/fuzz/fuzz_*.c).
#
#   make fuzz TIME=600                     all targets in turn, so many seconds each, with libFuzzer
#   make fuzz TIME=600 TARGET="model http" these only
#
# `make test` replays tests/fuzz/seeds and builds without clang. What libFuzzer finds is left in
# build/fuzz-found; a finding that is fixed becomes a seed.

FUZZ_TARGETS := $(patsubst tests/fuzz/fuzz_%.c,%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
FUZZ_REPLAY  := $(FUZZ_TARGETS:%=$(B)/tests/fuzz/replay_%)
TEST_BIN     += $(FUZZ_REPLAY)

TARGET ?= $(FUZZ_TARGETS)
# Seconds where TIME is given: the load generator has a default of its own for it.
FUZZ_TIME := $(if $(filter file default undefined,$(origin TIME)),60,$(TIME))

.PHONY: fuzz fuzzers
fuzz: ## fuzz TARGET="model http ..." (all) for TIME=60 seconds each
	$(call install,$(BUILD_PACKAGES) $(TEST_PACKAGES))
	@$(MAKE) --no-print-directory CC=clang MODE=fuzz -j$$(nproc) fuzzers
	@# Who ends make means the fuzzer, too: the shell between them does not tell it by itself.
	@for t in $(TARGET); do \
	    tests/fuzz/run.sh build/fuzz-clang/tests/fuzz/fuzz_$$t $$t $(FUZZ_TIME) & \
	    trap "kill $$!" INT TERM; wait $$! || exit 1; \
	done

fuzzers: $(FUZZ_TARGETS:%=$(B)/tests/fuzz/fuzz_%)

FUZZ_PARTS := $(filter-out $(B)/server/main.o,$(SERVER_OBJ)) $(LIB)

$(B)/tests/fuzz/replay_%: $(B)/tests/fuzz/fuzz_%.o $(B)/tests/fuzz/replay.o $(FUZZ_PARTS)
	$(call shown,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LDLIBS) -lcmocka

# A mutator for those that need one.
$(B)/tests/fuzz/fuzz_model: $(B)/tests/fuzz/mutate_model.o
$(B)/tests/fuzz/fuzz_%: $(B)/tests/fuzz/fuzz_%.o $(FUZZ_PARTS)
	$(call shown,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -fsanitize=fuzzer -o $@ $^ $(LDLIBS) -lcmocka

-include $(FUZZ_TARGETS:%=$(B)/tests/fuzz/fuzz_%.d) $(B)/tests/fuzz/replay.d

# Random networks, every way there is to run them (differential.c):
#
#   make fuzz-differential TIME=600 SEED=1000   for so many seconds, from that one on; the first 300
#                                               are compared with ONNX Runtime, too

SEED         ?= 1
DIFFERENTIAL := $(B)/tests/fuzz/differential
TEST_BIN     += $(DIFFERENTIAL)

.PHONY: fuzz-differential
fuzz-differential: setup-test build/node_modules/onnxruntime-node ## random networks in every way for TIME=60 seconds
	@$(MAKE) --no-print-directory -j$$(nproc) $(DIFFERENTIAL)
	rm -rf build/fuzz-cases && mkdir -p build/fuzz-cases
	$(DIFFERENTIAL) --from $(SEED) --count 300 --write build/fuzz-cases
	NODE_PATH=build/node_modules node tests/fuzz/onnxruntime.js build/fuzz-cases
	$(DIFFERENTIAL) --from $$(($(SEED) + 300)) --seconds $(FUZZ_TIME)

$(DIFFERENTIAL): $(B)/tests/fuzz/differential.o $(B)/tests/fuzz/random_net.o \
    $(B)/tests/avx512_emulated.o $(LIB)
	$(call shown,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LDLIBS)

-include $(DIFFERENTIAL).d $(B)/tests/fuzz/random_net.d

# Threads that do not start are among the faults.
$(B)/tests/test_faults: LDFLAGS += -Wl,--wrap=pthread_create
