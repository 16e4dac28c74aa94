# `make` alone lists what there is to do. KEEP=1 leaves what the demo started running.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

TARGET  := $(or $(CARGO_TARGET_DIR),target)
CLUSTER := $(TARGET)/cluster
CHART   := charts/stint
CRDS    := crds/stint.dev.yaml
IMAGES  := $(TARGET)/image
# The newest Kubernetes that the tests run on.
KUBERNETES := 1.37

# Tests named cluster_* start a real control plane; the others need nothing but cargo.
TESTS      := $(basename $(notdir $(wildcard tests/*.rs)))
FAST_TESTS := $(filter-out cluster_%,$(TESTS))
SLOW_TESTS := $(filter cluster_%,$(TESTS))

# $(call need,PROGRAM,WHAT TO DO) stops with a reason when the program is missing.
need = @command -v $(1) >/dev/null || { echo "make $@: '$(1)' is missing: $(2)" >&2; exit 1; }
need_cargo = $(call need,cargo,install Rust $(RUST) or newer)
need_cc = $(call need,cc,install a C compiler such as gcc or clang; the TLS library is built with it)
RUST := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: programs ## See a grant come, work and end in a real API server (KEEP=1 leaves it running)
	cargo build --bin stint --example demo
	KEEP=$(KEEP) $(TARGET)/debug/examples/demo

.PHONY: test
test: programs ## Run every test, those with a real control plane included
	@tests/cluster/build.sh $(CLUSTER) promtool reports monitoring cert-manager
	cargo test --no-run
	@echo "tests without a control plane run beside those with one, and are shown after them: $(TARGET)/fast-tests.log"
	@# Those with a control plane mostly wait.
	@{ cargo test --lib --bins $(addprefix --test ,$(FAST_TESTS)) && cargo test --doc; } >$(TARGET)/fast-tests.log 2>&1 & \
	  fast=$$!; trap 'kill $$fast 2>/dev/null' INT TERM; \
	  cargo test $(addprefix --test ,$(SLOW_TESTS)); slow=$$?; \
	  wait $$fast; quick=$$?; cat $(TARGET)/fast-tests.log; \
	  [ $$slow = 0 ] && [ $$quick = 0 ]

.PHONY: test-fast
test-fast: rust ## Run the tests that need no control plane
	cargo test --lib --bins $(addprefix --test ,$(FAST_TESTS))

# Admission policies and CEL, the schema, the deadline of Jobs, the garbage collector, the chart, the roles of Kubernetes' own.
OLDEST_TESTS := cluster_defaults cluster_chart_served cluster_grants cluster_guarantees cluster_guard cluster_extension cluster_wide

.PHONY: test-oldest
test-oldest: rust ## Run what depends most on the API server on the oldest Kubernetes that the chart takes
	@tests/cluster/build.sh $(CLUSTER) helm oldest
	STINT_TEST_OLDEST=1 cargo test --no-fail-fast $(addprefix --test ,$(OLDEST_TESTS))

.PHONY: lint
lint: rust ## Check format, lints, documentation, dependencies and the chart
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	@if ! cargo deny --version >/dev/null 2>&1; then \
	  echo "lint: cargo-deny is not installed, so dependencies are not checked ('cargo install cargo-deny' adds it)"; \
	else set -ex; \
	  cargo deny --log-level error check bans licenses sources; \
	  if cargo deny fetch db >/dev/null 2>&1; then cargo deny --log-level error check advisories; \
	  else echo "lint: the advisory database cannot be reached, so advisories are not checked"; fi; \
	fi
	$(MAKE) --no-print-directory lint-chart

.PHONY: lint-chart
lint-chart:
	tests/cluster/build.sh $(CLUSTER) helm
	$(CLUSTER)/helm lint --strict $(CHART)

.PHONY: crds
crds: rust ## Write the CRDs from the Rust types
	@mkdir -p $(dir $(CRDS))
	cargo run -q --bin stint -- crds >$(CRDS).new
	mv $(CRDS).new $(CRDS)

.PHONY: chart
chart: crds ## Put the CRDs into the chart, write its schema, its table of values and the render that is reviewed, and check it
	@mkdir -p $(CHART)/files
	cp $(CRDS) $(CHART)/files/crds.yaml
	UPDATE=1 cargo test -q --test chart_schema the_schema
	UPDATE=1 cargo test -q --test chart the_table
	UPDATE=1 cargo test -q --test cluster_chart the_default
	$(MAKE) --no-print-directory lint-chart

.PHONY: manifests
manifests: ## Write plain YAML for GitOps into target/manifests (VALUES=file.yaml for other values)
	@tests/cluster/build.sh $(CLUSTER) helm
	@mkdir -p $(TARGET)/manifests
	$(CLUSTER)/helm template stint $(CHART) --namespace stint-system --kube-version $(KUBERNETES) --no-hooks \
	  --values $(or $(VALUES),$(CHART)/values-gitops.yaml) >$(TARGET)/manifests/stint.yaml
	@echo "$(TARGET)/manifests/stint.yaml: apply it to a namespace that exists, stint-system"

.PHONY: bench
bench: programs ## Measure what a review costs, how late grants end, how fast a kill switch is and how fast audit logs are read, beside floors of the same run (about 15 minutes)
	$(call need,valgrind,install it from your distribution; it counts the instructions of a review)
	cargo bench --bench report
	cargo bench --bench review
	cargo bench --bench expiry
	cargo bench --bench suspend
	cargo bench --bench list
	cargo bench --bench suggest

.PHONY: krew
krew: rust ## Pack the kubectl plugin and its krew manifest into target/krew (URL=https://… says where the archives will be)
	$(call need,readelf,install binutils; it tells a static binary)
	krew/package.sh $(TARGET)/krew "$(URL)"

.PHONY: build
build: rust ## Build the release binaries
	cargo build --release

.PHONY: image
image: rust ## Build the container image into target/image, for ctr, kind load image-archive and docker load, and look at its size
	$(call need,readelf,install binutils; it tells a static binary)
	image/build.sh $(IMAGES)

.PHONY: image-twice
image-twice: rust ## Build the image once more from nothing and see that it is the same (about 8 minutes)
	image/reproducible.sh $(TARGET)/image-twice

.PHONY: sbom
sbom: rust ## Write the bill of materials beside the image, CycloneDX in JSON, and check that nothing is missing in it
	image/sbom.sh $(IMAGES)/stint.cdx.json

.PHONY: release
release: image sbom krew manifests ## Gather what is published of this version into target/published (URL=https://… as for krew)
	release/pack.sh $(TARGET)/published $(TARGET)

.PHONY: e2e
e2e: image ## Install the chart on a cluster with a node and use it: on kind, or as root on a node of its own
	tests/node/e2e.sh $(IMAGES)

.PHONY: cluster
cluster: programs ## Start a control plane to play with, until Ctrl-C
	cargo run -q --example cluster

.PHONY: clean
clean: ## Remove everything that was built
	$(call need_cargo)
	cargo clean

.PHONY: rust
rust:
	$(call need_cargo)
	$(call need_cc)

# build.sh says for itself when Go is missing; with the programs built already it is not needed.
.PHONY: programs
programs: rust
	@tests/cluster/build.sh $(CLUSTER)
