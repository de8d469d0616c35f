# `make help` lists the targets. `make demo` and `make test` are all that a newcomer needs.

SHELL := /bin/bash
CARGO ?= cargo

# What changes links runs in network namespaces. Without root, a user namespace gives the rights to make them; Cargo has
# fetched everything by then, so it is kept off the network, which is not there inside but for a loopback of its own.
ifeq ($(shell id -u),0)
IN_NAMESPACE :=
else
IN_NAMESPACE := CARGO_NET_OFFLINE=true unshare --user --map-root-user --net --mount -- \
	sh -c 'ip link set lo up && exec "$$@"' sh
endif

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build both binaries, optimised: target/release/multinic and target/release/multinic-agent
	$(CARGO) build --release --locked -p multinic -p multinic-agent

.PHONY: demo
demo: build ## Show the whole thing on this machine: a simulated cloud, three nodes, real kernel NICs
	target/release/multinic demo $(DEMO_ARGS)

.PHONY: test
test: ## Run the tests that need nothing but this machine (MariaDB's and Kubernetes' too where these are installed)
	$(CARGO) build --locked --workspace --bins
	$(CARGO) test --locked --workspace --no-run
	$(IN_NAMESPACE) $(CARGO) test --locked --workspace

.PHONY: kubernetes
kubernetes: ## Build the Kubernetes API server that the tests run against (Go 1.26; once, about 9 minutes)
	testbed/kubernetes/build.sh api

.PHONY: test-openstack
test-openstack: ## Run the whole job against a real Keystone, Neutron, Nova and MariaDB (root, Debian 12; installs them)
	$(CARGO) build --locked --workspace --bins
	$(CARGO) test --locked -p multinic-testbed --test real_openstack -- --ignored --test-threads 1

.PHONY: lint
lint: fmt-check ## Check formatting, lints, documentation and scripts
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --quiet

.PHONY: fmt
fmt: ## Format the code
	$(CARGO) fmt --all

.PHONY: fmt-check
fmt-check:
	$(CARGO) fmt --all -- --check

.PHONY: deny
deny: ## Check licences, sources and duplicates of the dependencies (needs cargo-deny)
	$(CARGO) deny --all-features check bans licenses sources

.PHONY: bench
bench: build-bench ## Measure against the limits of docs/benchmarks.md; fails if one is missed
	target/release/multinic-bench

.PHONY: build-bench
build-bench:
	$(CARGO) build --release --locked -p multinic -p multinic-agent -p multinic-testbed

.PHONY: clean
clean: ## Remove what was built
	$(CARGO) clean
