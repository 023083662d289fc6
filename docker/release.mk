# Releases: the tarball and the Debian package. Included by ../Makefile. VERSION stands there, and
# nowhere else.

DIST       := build/convd-$(VERSION)
# The time of all that is released: that of the last commit, as far as there are commits.
ifndef SOURCE_DATE_EPOCH
SOURCE_DATE_EPOCH := $(or $(shell git log -1 --format=%ct 2>/dev/null),0)
endif
export SOURCE_DATE_EPOCH
DEB_ARCH   := $(shell dpkg --print-architecture 2>/dev/null)

.PHONY: dist deb release-test

# Of what is committed: order, owners, modes and times are those of the commit, gzip keeps no name.
dist: ## make the release's tarball of what is committed, the same from every clone
	@mkdir -p build
	git -c tar.umask=0022 archive --format=tar --prefix=convd-$(VERSION)/ HEAD | gzip -9n > $(DIST).tar.gz
	cd build && sha256sum convd-$(VERSION).tar.gz > convd-$(VERSION).tar.gz.sha256

deb: all ## make the Debian package, below build/
	$(call install,dpkg-dev gzip)
	docker/debian/build.sh $(VERSION) $(DEB_ARCH)

release-test: deb ## the tarball twice, the package in a folder of its own
	docker/debian/test.sh $(VERSION) $(DEB_ARCH)
