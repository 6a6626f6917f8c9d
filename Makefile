# SPDX-License-Identifier: Apache-2.0
# A front for Meson and the tools. `make help` lists what there is.
#
#     BUILD=DIR       the build directory (build)
#     DESTDIR, PREFIX for make install
#     KVM_TESTS=NAMES  for make test-kvm: these only
#     SEED=N          the seed of random tests; printed by make soak
#
# The build is a release as meson.build has it by default: optimized, with symbols and asserts. For another:
# meson setup DIR -Dbuildtype=debug, or -Dsanitize=true; then BUILD=DIR make test.

BUILD ?= build
PREFIX ?= /usr/local
export BUILD

.PHONY: all build web setup demo test test-kvm soak lint bench fuzz install deb fresh fresh-user clean help
.DEFAULT_GOAL := all

all: build ## build everything (release); the programs run from the build directory
	@echo "wirt is built: try $(BUILD)/src/bin/wirt --help, or make demo"

setup: ## install missing Debian packages (with sudo when not root)
	@tools/setup

$(BUILD)/build.ninja: | setup
	@meson setup $(BUILD) -Dprefix=$(PREFIX) >$(BUILD)-setup.log 2>&1 || { cat $(BUILD)-setup.log; exit 1; }
	@mv $(BUILD)-setup.log $(BUILD)/meson-logs/setup.log

build: setup $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet

web: build ## build the web page of wirtd
	@tools/web

demo: build ## boot Debian 12 in a VM and stand in its shell
	@tools/demo

test: build ## all tests but the long ones (at most 12 minutes on 2 cores)
	@tools/test

test-kvm: build ## the KVM tests, in a guest that has a genuine /dev/kvm (part of make test)
	@tools/guest-image make vmlinuz-cloud busybox-cloud.cpio bed.cpio bed.ext4 >/dev/null
	@tests/kvm/kvm_test.py $(KVM_TESTS)

soak: build ## the long tests: minutes to hours; seed and commit are printed
	@tools/test --soak

lint: setup $(BUILD)/build.ninja ## format, clang-tidy, cppcheck, layers, policy, manual pages
	@tools/lint

bench: build ## workloads under wirt beside QEMU's TCG
	@bench/run

fuzz: setup ## fuzz each target (FUZZ_SECONDS in all, 240)
	@tools/fuzz

install: build web ## install to PREFIX (/usr/local; with sudo where needed), below DESTDIR when set
	@tools/install $(if $(filter-out file,$(origin PREFIX)),--prefix '$(PREFIX)') $(if $(DESTDIR),--destdir '$(DESTDIR)')

deb: build web ## make a Debian package of what install installs; prints its path
	@tools/deb

fresh: ## prove make demo and make test on a fresh minimal Debian 12
	@tools/fresh

fresh-user: ## the same as an ordinary user who has sudo
	@tools/fresh --user

clean: ## remove what was built; guest images in build/guest stay
	@if [ -f $(BUILD)/build.ninja ]; then ninja -C $(BUILD) --quiet -t clean; fi
	@rm -rf build-*

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | while IFS='|' read -r what why; do printf '%-14s %s\n' "$$what" "$$why"; done
