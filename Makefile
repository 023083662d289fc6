# convd: one file, read top to bottom.  make help  lists the targets.
#
#   make run              set up, build, serve the bundled model
#   make test             set up, build, run every test
#   make MODE=asan test   the same with AddressSanitizer and UBSan (tsan: ThreadSanitizer, msan:
#                         MemorySanitizer)
#   make STATIC=1         as the container image has it (docker/docker.mk)
#   SKIP="a b"            leaves out these suites, by the names that the tests print

VERSION := 0.1.0

MODE   ?= release
CC     := $(if $(filter msan,$(MODE)),clang,$(if $(filter default,$(origin CC)),gcc,$(CC)))
include docker/cross.mk
PYTHON ?= /usr/bin/python3
B      := build/$(MODE)$(if $(findstring clang,$(CC)),-clang)$(if $(STATIC),-static)
BIN    := $(if $(filter build/release,$(B)),build/convd,$(B)/convd)
ARCH   := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine 2>/dev/null)))

# --- what has to be installed -----------------------------------------------------------------

BUILD_PACKAGES := gcc libc6-dev make pkg-config protobuf-c-compiler libprotobuf-c-dev \
    libmicrohttpd-dev libgnutls28-dev libjansson-dev libjpeg62-turbo-dev libspng-dev libwebp-dev zlib1g-dev curl
LOAD_PACKAGES  := libcurl4-gnutls-dev
TEST_PACKAGES  := clang libomp-14-dev libclang-rt-14-dev libcmocka-dev python3 python3-pytest \
    python3-numpy python3-requests python3-pil python3-onnx dataset-fashion-mnist \
    python3-jsonschema libonnx-testdata xz-utils valgrind zsh $(LOAD_PACKAGES)
PAGE_PACKAGES  := chromium fonts-dejavu-core $(if $(shell command -v npm),,nodejs npm)
LINT_PACKAGES  := clang-format clang-tidy cppcheck $(LOAD_PACKAGES)
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# Installs those of $(1) that are not there.
define install
@missing=; for p in $(1); do \
    dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; \
done; \
if [ -n "$$missing" ]; then \
    echo "installing:$$missing"; \
    $(SUDO) apt-get update -qq && \
    $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
fi
endef

# --- how it is compiled -----------------------------------------------------------------------

LIBRARIES := libprotobuf-c libmicrohttpd gnutls jansson libjpeg spng libwebp libwebpdemux zlib

# A packager's own go last and win.
CPPFLAGS_ALL = -I. -I$(B) -MMD -MP -D_GNU_SOURCE -DCONVD_VERSION='"$(VERSION)"' $(CPPFLAGS)
CFLAGS_ALL   = -std=c11 -g -ffp-contract=off -ffile-prefix-map=$(CURDIR)=. -fvisibility=hidden -fPIC \
               -fstack-protector-strong -pthread -Wall -Wextra -Wpedantic -Wshadow -Wconversion \
               -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wno-psabi \
               $(if $(CI),-Werror) $(CFLAGS.$(MODE)) $(CFLAGS.file) $(CFLAGS)
CFLAGS.release := -O2 -DNDEBUG -fopenmp -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 \
                  -fstack-clash-protection
CFLAGS.debug   := -O1 -fopenmp -DRT_COMPACT
CFLAGS.asan    := -O1 -fopenmp -DRT_COMPACT -fsanitize=address,undefined -fno-sanitize-recover=all \
                  -fno-omit-frame-pointer
# libgomp is not instrumented: without OpenMP a team has one worker, and the server has its threads.
CFLAGS.tsan    := -O1 -DRT_COMPACT -fsanitize=thread
# Memory that is read before it was written: clang's alone. It sees nothing of what libraries write,
# which runtime/mem.h tells it, nor of libomp.
CFLAGS.msan    := -O1 -DRT_COMPACT -fsanitize=memory -fsanitize-memory-track-origins \
                  -fsanitize-memory-param-retval -fno-sanitize-recover=memory -fno-omit-frame-pointer
# For libFuzzer, with clang; without OpenMP, as what a target covers should follow from its input.
CFLAGS.fuzz    := -O1 -DRT_COMPACT -fno-omit-frame-pointer -fno-sanitize-recover=all \
                  -fsanitize=fuzzer-no-link,address,undefined,float-cast-overflow
LDFLAGS_ALL    = $(CFLAGS.$(MODE)) -pthread -Wl,-z,relro,-z,now,-z,noexecstack $(LDFLAGS)
LDLIBS         = $(shell pkg-config --libs $(LIBRARIES)) -lm

RUNTIME := $(sort $(wildcard runtime/*.c runtime/ops/*.c runtime/passes/*.c runtime/kernels/*.c))
SERVER  := $(sort $(wildcard server/*.c))
TESTS   := $(filter-out $(SKIP), \
               $(basename $(notdir $(sort $(wildcard tests/test_*.c tests/check_*.c)))))
PROTO   := $(B)/proto/onnx.pb-c

LIB         := $(B)/libconvd.a
SHARED      := $(B)/libconvd.so.$(firstword $(subst ., ,$(VERSION)))
RUNTIME_OBJ := $(RUNTIME:%.c=$(B)/%.o) $(PROTO).o
PAGE        := $(sort $(wildcard server/page/*.html server/page/*.css server/page/*.js \
                        server/page/*.json server/page/*.svg))
SERVER_OBJ  := $(SERVER:%.c=$(B)/%.o) $(B)/server/page_data.o
TEST_BIN    := $(TESTS:%=$(B)/tests/%)

PAGE_MODULES := build/node_modules/playwright-core build/node_modules/axe-core

# Where `make install` puts things; DESTDIR goes in front of all.
PREFIX     ?= /usr/local
LIBDIR     ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include/convd

# A level's file, and no other, may use its instructions.
ifeq ($(ARCH),x86_64)
$(B)/runtime/kernels/avx2.o:   CFLAGS.file := -mavx2 -mfma -mf16c
$(B)/runtime/kernels/avx512.o: CFLAGS.file := -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma \
                                              -mprefer-vector-width=512
$(B)/runtime/kernels/integer_avx2.o:   CFLAGS.file := -mavx2 -mfma
$(B)/runtime/kernels/integer_avx512.o: CFLAGS.file := -mavx512f -mavx512bw -mavx512dq -mavx512vl \
                                              -mavx512vnni -mfma -mprefer-vector-width=512
endif
# gcc's scheduling before registers are given out would need more of them than there are; clang's
# does not.
ifeq ($(ARCH),aarch64)
$(B)/runtime/kernels/neon.o:   CFLAGS.file := $(if $(findstring clang,$(CC)),,-fno-schedule-insns)
endif
$(B)/runtime/kernels/%.o: CFLAGS.release := -O3 -DNDEBUG -fopenmp
# Loops that any data goes through alike have nothing to be found by coverage.
$(B)/runtime/kernels/%.o: CFLAGS.fuzz := -O1 -DRT_COMPACT -fno-omit-frame-pointer -fsanitize=address
$(PROTO).o: CFLAGS.file := -Wno-conversion

# Commands are shown in short; V=1 shows them whole.
Q     := $(if $(V),,@)
shown  = @printf '  %-4s %s\n' $(1) $(2)

# --- targets ----------------------------------------------------------------------------------

.PHONY: all setup setup-test setup-lint run test test-page check bench compare compare-load compare-serving lint layers format \
        install uninstall reference help clean
.DELETE_ON_ERROR:
.SECONDARY:

all: $(BIN) ## build build/convd

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: ## install the packages that building needs (apt)
	$(call install,$(BUILD_PACKAGES))

setup-test:
	$(call install,$(BUILD_PACKAGES) $(TEST_PACKAGES))

setup-lint:
	$(call install,$(LINT_PACKAGES))

run: setup ## set up, build, serve the bundled model: PORT=8000
	@$(MAKE) --no-print-directory -j$$(nproc) all
	$(BIN) serve models/fashion $(if $(PORT),--port $(PORT))

test: setup-test ## set up, build, run every test
	@$(MAKE) --no-print-directory -j$$(nproc) all $(LOAD_BIN) $(TEST_BIN)
	@B=$(B) BIN=$(BIN) PYTHON=$(PYTHON) SKIP="$(SKIP)" MODE=$(MODE) CC=$(CC) tests/run.sh

test-page: all $(PAGE_MODULES) ## drive the built-in page in a browser; screenshots in build/page
	$(call install,$(PAGE_PACKAGES))
	CONVD_BINARY=$(BIN) node --test tests/page/page.test.mjs

check: $(B)/tests/check_kernels ## kernels against their reference only
	$(B)/tests/check_kernels

bench: all ## time the bundled model
	$(BIN) bench models/fashion --batch 1,8

$(PAGE_MODULES) &:
	$(call install,$(PAGE_PACKAGES))
	@mkdir -p build
	cd build && npm install --silent --ignore-scripts playwright-core@1 axe-core@4

# The other side of the comparison: the library and its binding are inside the package.
build/node_modules/onnxruntime-node:
	@mkdir -p build
	cd build && npm install --silent --ignore-scripts onnxruntime-node@1

comma   := ,
BATCH   ?= 1,8
THREADS ?= 1,2
MODELS  ?= models/fashion/model.onnx
PLOT    ?= build/compare.svg
compare: all build/node_modules/onnxruntime-node ## time MODELS="a.onnx b.onnx" against ONNX Runtime, draw PLOT=FILE.svg
	NODE_PATH=build/node_modules node tests/compare/compare.js --convd $(BIN) --batch $(BATCH) \
	    --threads $(THREADS) --json build/compare.json --plot $(PLOT) $(MODELS)

compare-load: all build/node_modules/onnxruntime-node ## loading, memory and the first run of MODELS="a.onnx b.onnx" against ONNX Runtime's
	NODE_PATH=build/node_modules node tests/compare/load.js --convd $(BIN) --batch 8 \
	    --threads $(firstword $(subst $(comma), ,$(THREADS))) --json build/compare-load.json $(MODELS)

# The server that does nothing, for `make compare-serving`.
build/compare/%: tests/compare/%.c Makefile
	@mkdir -p $(@D)
	$(call shown,LINK,$@)
	$(Q)$(CC) -O2 -g -std=c11 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Wshadow -Wconversion \
	    -Wstrict-prototypes -Wmissing-prototypes $(if $(CI),-Werror) -o $@ $< -lmicrohttpd

# convd without its counters, likewise.
UNCOUNTED := $(filter-out server/metrics.c,$(SERVER))
build/compare/uncounted: tests/compare/uncounted.h $(SERVER_OBJ) $(LIB)
	@mkdir -p $(@D)
	$(call shown,LINK,$@)
	$(Q)$(CC) $(filter-out -M%,$(CPPFLAGS_ALL)) $(CFLAGS_ALL) $(LDFLAGS_ALL) -include $< -o $@ $(UNCOUNTED) \
	    $(filter-out $(UNCOUNTED:%.c=$(B)/%.o),$(SERVER_OBJ)) $(LIB) $(LDLIBS)

build/node_modules/fastify:
	@mkdir -p build
	cd build && npm install --silent --ignore-scripts fastify@5 sharp@0 onnxruntime-node@1

MNIST     ?= ../shared/data/models/mnist8_cntk/model.onnx
MOBILENET ?= mobilenet_v2.onnx
ONLY      ?= tiny,large,pictures,overload,reloads,request,seen
compare-serving: all load build/compare/empty_server build/compare/uncounted $(if $(findstring pictures,$(ONLY)),build/node_modules/fastify) ## the serving core under load: ONLY=tiny,... MOBILENET=net.onnx
	$(call install,wrk python3-onnx python3-numpy python3-requests python3-pil)
	CONVD_BINARY=$(BIN) $(PYTHON) tests/compare/serving.py --load $(LOAD_BIN) \
	    --empty-server build/compare/empty_server --uncounted build/compare/uncounted \
	    --node-modules build/node_modules \
	    --mnist $(MNIST) --mobilenet $(MOBILENET) --only $(ONLY) $(COMPARE_FLAGS)

layers: ## who includes whom, against the table of the design
	@tests/layers.sh

# cppcheck reads no header of the system: without protobuf-c's version it leaves out what includes it.
# Nor does it know that level.h takes vectors apart.
lint: setup-lint layers ## clang-tidy, cppcheck
	@$(MAKE) --no-print-directory $(PROTO).h
	printf '%s\n' $(RUNTIME) $(SERVER) $(wildcard tests/load/*.c) | xargs -P$$(nproc) -I@ clang-tidy --quiet @ -- \
	    -std=c11 -D_GNU_SOURCE -I. -I$(B) -fopenmp -DCONVD_VERSION='""'
	cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr \
	    --suppress=uninitvar:runtime/kernels/level.h --suppress=objectIndex:runtime/kernels/level.h \
	    --error-exitcode=1 -I. -I$(B) -D__x86_64__ -DPROTOBUF_C_VERSION_NUMBER=1004001 runtime server tests/load

format: ## clang-format everything
	clang-format -i $$(git ls-files '*.c' '*.h' '*.inc')

install: all $(SHARED) ## install below PREFIX (/usr/local), with DESTDIR in front
	install -d $(addprefix $(DESTDIR),$(PREFIX)/bin $(LIBDIR)/pkgconfig $(INCLUDEDIR)/runtime \
	    $(PREFIX)/share/man/man1 $(PREFIX)/share/bash-completion/completions \
	    $(PREFIX)/share/zsh/site-functions $(PREFIX)/share/convd/models/fashion)
	install -m 755 $(BIN) $(DESTDIR)$(PREFIX)/bin/convd
	install -m 644 $(LIB) $(SHARED) $(DESTDIR)$(LIBDIR)
	ln -sf $(notdir $(SHARED)) $(DESTDIR)$(LIBDIR)/libconvd.so
	install -m 644 runtime/rt.h runtime/mem.h runtime/status.h runtime/tensor.h \
	    $(DESTDIR)$(INCLUDEDIR)/runtime
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' \
	    -e 's|@VERSION@|$(VERSION)|' runtime/convd.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/convd.pc
	$(BIN) man > $(DESTDIR)$(PREFIX)/share/man/man1/convd.1
	$(BIN) completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/convd
	$(BIN) completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_convd
	install -m 644 $(addprefix models/fashion/,model.onnx labels.txt config.json README.md) \
	    $(DESTDIR)$(PREFIX)/share/convd/models/fashion

uninstall: ## remove what install put there
	rm -rf $(addprefix $(DESTDIR),$(PREFIX)/bin/convd $(LIBDIR)/libconvd.* $(INCLUDEDIR) \
	    $(LIBDIR)/pkgconfig/convd.pc $(PREFIX)/share/man/man1/convd.1 $(PREFIX)/share/convd \
	    $(PREFIX)/share/bash-completion/completions/convd $(PREFIX)/share/zsh/site-functions/_convd)

reference: all ## write the references in server/README.md anew: options, config.json
	tests/reference.sh $(BIN) server/README.md
	$(PYTHON) tests/config_reference.py server/README.md

clean: ## remove build/
	rm -rf build

include docker/docker.mk docker/release.mk
include docker/charts.mk
include tests/load/load.mk
include tests/fuzz/fuzz.mk
include tests/analysis.mk

# --- rules ------------------------------------------------------------------------------------

$(BIN): $(SERVER_OBJ) $(LIB)
	@mkdir -p $(@D)
	$(call shown,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LDLIBS)

$(LIB): $(RUNTIME_OBJ)
	$(call shown,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(SHARED): $(RUNTIME_OBJ)
	$(call shown,LINK,$@)
	$(Q)$(CC) -shared $(LDFLAGS_ALL) -Wl,-soname,$(@F) -Wl,-z,defs -o $@ $^ \
	    $(shell pkg-config --libs libprotobuf-c) -lm

$(PROTO).c $(PROTO).h &: proto/onnx.proto
	@mkdir -p $(B)/proto
	$(call shown,GEN,$@)
	$(Q)protoc-c --proto_path=. --c_out=$(B) proto/onnx.proto

$(B)/server/page_data.c: server/page/embed.sh Makefile $(PAGE)
	@mkdir -p $(@D)
	$(call shown,GEN,$@)
	$(Q)VERSION=$(VERSION) server/page/embed.sh $(PAGE) > $@

$(B)/server/page_data.o: $(B)/server/page_data.c server/page.h
	$(call shown,CC,$<)
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -c -o $@ $<

$(PROTO).o: $(PROTO).c
	$(call shown,CC,$<)
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -c -o $@ $<

$(B)/%.o: %.c Makefile | $(PROTO).h
	@mkdir -p $(@D)
	$(call shown,CC,$<)
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -c -o $@ $<

$(B)/tests/%: $(B)/tests/%.o $(filter-out $(B)/server/main.o,$(SERVER_OBJ)) $(LIB)
	$(call shown,LINK,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LDLIBS) -lcmocka

$(B)/tests/check_kernels $(B)/tests/check_winograd: $(B)/tests/avx512_emulated.o
# Calls of the system that a test answers in its place.
$(B)/tests/test_system: LDFLAGS += $(patsubst %,-Wl$(comma)--wrap=%,read pread mmap eventfd inotify_init1 socket)
# Minutes of compiling otherwise; the other levels' kernels are instrumented.
$(B)/tests/avx512_emulated.o: CFLAGS.file := -fno-sanitize=all

-include $(RUNTIME_OBJ:.o=.d) $(SERVER_OBJ:.o=.d) $(TEST_BIN:=.d) $(B)/tests/avx512_emulated.d
