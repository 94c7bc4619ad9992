# `make help` says what there is. The work is done by the scripts named here; each can be run by itself.

.PHONY: help demo demo-nics test test-host soak arm64 lint fmt deb deb-arm64 deb-test image bench setup lab clean
.DEFAULT_GOAL := help

# KEEP=1 leaves the demonstration's lab up. TESTS="name..." runs the stages whose names hold one of these words.
KEEP ?=
TESTS ?=
CARGO ?= cargo

help:                    ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 20

# The kernel, Kubernetes' programs and ours are built beside each other: each has minutes in which it keeps one core only.
demo: setup              ## by kubectl: Deployments, a Service, a NetworkPolicy, on two servers with two NICs (KEEP=1 leaves it up)
	$(CARGO) build --locked -p nic-agent -p host-shim -p device-plugin -p cluster-controller & programs=$$!; \
	tests/kubernetes/build >/dev/null & kubernetes=$$!; \
	tests/lab/build >/dev/null || { kill $$programs $$kubernetes; exit 1; }; \
	wait $$programs || { kill $$kubernetes; exit 1; }; wait $$kubernetes
	KEEP=$(KEEP) tests/lab/demo

demo-nics: setup         ## without a cluster: three pods, attached by CNI calls, measured, shown (KEEP=1 leaves it up)
	$(CARGO) build --locked -p nic-agent -p host-shim & programs=$$!; \
	tests/lab/build >/dev/null || { kill $$programs; exit 1; }; wait $$programs
	KEEP=$(KEEP) tests/lab/demo-nics

test: setup              ## every test: on this machine, then in the lab VM (TESTS="unit e2e": only such stages)
	tests/run $(TESTS)

test-host: setup         ## only what needs no VM
	tests/run --host $(TESTS)

# A step may take as long as a hundred rounds of overload do.
soak: setup              ## the lab's tests, long: 250 rounds of random policies, 100 of overload, the API server gone for 5 minutes; the arm64 packages (make arm64)
	DRAWBRIDGE_POLICY_ROUNDS=250 DRAWBRIDGE_OVERLOAD_ROUNDS=100 DRAWBRIDGE_OUTAGE_SECONDS=300 DRAWBRIDGE_STEP_SECONDS=14400 tests/run vm e2e
	$(MAKE) arm64

arm64: setup deb-arm64   ## the arm64 packages in an emulated machine with systemd: installed, rebooted, killed
	tests/machine/run

lint:                    ## format, clippy, scripts, unit files, dependencies
	tests/lint

fmt:                     ## formats the Rust code
	$(CARGO) fmt --all

deb:                     ## Debian packages for amd64, into target/debian
	packaging/deb amd64

deb-arm64:               ## the same for arm64, as a BlueField needs them
	packaging/deb arm64

deb-test: deb deb-arm64  ## the packages in clean roots, their units under systemd, and the same bytes from a second build
	tests/debs/run
	tests/debs/reproducible

# IMAGE_ARM64=PATH: an arm64 cluster-controller, and the image is of both architectures.
image:                   ## container image of cluster-controller, into target/image
	$(CARGO) build --release --locked -p cluster-controller
	packaging/container/image --output target/image/cluster-controller.tar target/release/cluster-controller $(IMAGE_ARM64)

bench:                   ## cargo's benchmarks
	tests/bench

setup:                   ## installs what demo and test need (Debian packages; tools into target/tools)
	tests/setup

lab: setup               ## builds the lab's kernel, root file system and simulated NIC (kept in a cache)
	tests/lab/build >/dev/null

clean:                   ## stops the lab, removes target/; the lab's cache stays (tests/lab/README.md)
	tests/lab/lab down
	$(CARGO) clean
