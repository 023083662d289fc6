# The container image: what it is linked from, laid out as, and tested with. Included by ../Makefile.

# --- STATIC=1: the binary of the image --------------------------------------------------------

# Everything that Debian has an archive of goes into the binary, so that only what is used of it is
# shipped; libspng and the C library stay shared, and nothing needs libp11-kit (docker/no_tokens.c).
ARCHIVES       := protobuf-c microhttpd gnutls jansson jpeg webpdemux webp hogweed nettle gmp tasn1 idn2 unistring gomp
IMAGE_PACKAGES := $(filter %-dev,$(BUILD_PACKAGES)) libunistring-dev

ifdef STATIC
CFLAGS.release += -ffunction-sections -fdata-sections
LDFLAGS += -Wl,--gc-sections -Wl,--as-needed -Wl,-Map=$@.map \
           $(if $(filter x86_64,$(ARCH)),-Wl$(comma)-z$(comma)pack-relative-relocs)
LDLIBS   = -Wl,-Bstatic $(ARCHIVES:%=-l%) -Wl,-Bdynamic -lspng -lz -lm
SERVER_OBJ += $(B)/docker/no_tokens.o
$(B)/docker/no_tokens.o: CFLAGS.file := -Wno-unused-parameter -I/usr/include/p11-kit-1
-include $(B)/docker/no_tokens.d
endif
comma := ,

.PHONY: image image-setup image-binary image-root image-check docker-test

# In the image's build stage, as root. Another architecture's libraries come with a compiler for it.
image-setup:
ifeq ($(TARGET_ARCH),$(HOST_ARCH))
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends $(BUILD_PACKAGES) $(IMAGE_PACKAGES)
else
	dpkg --add-architecture $(TARGET_ARCH)
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends $(filter-out %-dev curl,$(BUILD_PACKAGES)) \
	    gcc-$(CROSS) $(IMAGE_PACKAGES:%=%:$(TARGET_ARCH))
endif

image-binary: $(BIN)

# The image's file system, below ROOT.
image-root: $(BIN)
	docker/root.sh $(BIN) $(ROOT) $(VERSION)

# The kernels of another architecture against their reference, as far as an emulator can tell.
image-check:
	apt-get install -y -qq --no-install-recommends libcmocka-dev:$(TARGET_ARCH) qemu-user-static
	$(MAKE) $(B)/tests/check_kernels
	qemu-$(ARCH)-static $(B)/tests/check_kernels

image: ## build the container image with docker, podman or buildah
	docker/build.sh $(IMAGE_FLAGS)

docker-test: all ## build the image as CI does, run it, check what docker/README.md promises
	docker/test.sh
