# The load generator and what is measured with it: tests/load/README.md.

LOAD_OBJ  := $(patsubst %.c,$(B)/%.o,$(sort $(wildcard tests/load/*.c)))
LOAD_BIN  := $(if $(filter build/release,$(B)),build/convd-load,$(B)/convd-load)
TIME      ?= 5s
ROUNDS    ?= 3
SCENARIOS ?= batchnorm,batching,threads,bodies,knee

.PHONY: load load-test load-test-quick load-agreement setup-load

setup-load:
	$(call install,$(BUILD_PACKAGES) $(LOAD_PACKAGES))

load: setup-load all ## build build/convd-load, the load generator
	@$(MAKE) --no-print-directory $(LOAD_BIN)

# mobilenet_v2 is exported when MOBILENET is not there but torchvision is.
load-test: load ## the standard scenarios under load: TIME=5s ROUNDS=3 MOBILENET=net.onnx; build/load/report.html
	$(call install,python3-numpy python3-requests python3-pil)
	CONVD_BINARY=$(BIN) $(PYTHON) tests/load/scenarios.py --load $(LOAD_BIN) \
	    --mobilenet $(MOBILENET) --time $(TIME) --rounds $(ROUNDS) --only $(SCENARIOS) $(LOAD_FLAGS)

load-test-quick: ## the same in a minute, on the bundled model: that all of it works
	@$(MAKE) --no-print-directory load-test TIME=100ms ROUNDS=1 LOAD_FLAGS="--warm-up 50ms --nets fashion"

load-agreement: load ## convd-load against wrk on the same target
	$(call install,wrk python3-numpy python3-requests)
	CONVD_BINARY=$(BIN) $(PYTHON) tests/load/agreement.py --load $(LOAD_BIN)

$(LOAD_BIN): $(LOAD_OBJ) $(filter-out $(B)/server/main.o,$(SERVER_OBJ)) $(LIB)
	@mkdir -p $(@D)
	$(call shown,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LDLIBS) -lcurl

$(B)/tests/test_load: $(patsubst %,$(B)/tests/load/%.o,histogram arrivals knee run)

-include $(LOAD_OBJ:.o=.d)
