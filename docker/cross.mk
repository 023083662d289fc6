# The compiler for another architecture. Included by ../Makefile before it asks CC what that is.
# TARGET_ARCH is Debian's name (arm64) of what is compiled for.

HOST_ARCH   := $(shell dpkg --print-architecture 2>/dev/null)
TARGET_ARCH ?= $(HOST_ARCH)

# Debian's name of an architecture to that of its compiler's package.
CROSS := $(if $(filter arm64,$(TARGET_ARCH)),aarch64,$(if $(filter amd64,$(TARGET_ARCH)),x86-64,$(TARGET_ARCH)))-linux-gnu

ifneq ($(TARGET_ARCH),$(HOST_ARCH))
CC := $(subst x86-64,x86_64,$(CROSS))-gcc
endif
