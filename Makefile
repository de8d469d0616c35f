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
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The agent puts a copy of itself on the node, and `multinic backup` one beside MariaDB's programs, where they have to run without
# their images: they are linked statically.
AGENT = $(CARGO) rustc --locked -p multinic-agent --bin multinic-agent
MULTINIC = $(CARGO) rustc --locked -p multinic --bin multinic
STATIC = -- -C target-feature=+crt-static

.PHONY: build
build: ## Build both binaries, optimised: target/release/multinic and target/release/multinic-agent
	$(MULTINIC) --release $(STATIC)
	$(AGENT) --release $(STATIC)

.PHONY: demo
demo: build ## Show the whole thing on this machine: a simulated cloud, three nodes, real kernel NICs
	target/release/multinic demo $(DEMO_ARGS)

.PHONY: test
test: ## Run the tests that need nothing but this machine (MariaDB's and Kubernetes' too where these are installed)
	$(CARGO) build --locked --workspace --bins
	$(CARGO) test --locked --workspace --no-run
	$(IN_NAMESPACE) $(CARGO) test --locked --workspace --no-fail-fast

.PHONY: kubernetes
kubernetes: ## Build the Kubernetes API server and the helm that the tests use (Go 1.26; once, about 15 minutes)
	testbed/kubernetes/build.sh api
	testbed/kubernetes/build.sh controllers
	testbed/kubernetes/build.sh helm

.PHONY: s3
s3: ## Build the S3-compatible server that backups are tested on (Go 1.26; once, about 2 minutes)
	testbed/s3/build.sh

.PHONY: test-openstack
test-openstack: ## Run the whole job against a real Keystone, Neutron, Nova and MariaDB (root, Debian 12; installs them)
	$(CARGO) build --locked --workspace --bins
	$(CARGO) test --locked -p multinic-testbed --test real_openstack -- --ignored --test-threads 1

.PHONY: kubernetes-cluster
kubernetes-cluster: kubernetes ## Build the rest of Kubernetes, for booted nodes (once, about 10 minutes more)
	testbed/kubernetes/build.sh cluster

.PHONY: test-cluster
test-cluster: kubernetes-cluster ## Run our pods on booted nodes with real kubelets (root on Debian 12)
	$(CARGO) build --locked --workspace --bins
	$(MULTINIC) $(STATIC)
	$(AGENT) $(STATIC)
	$(CARGO) test --locked -p multinic-testbed --test real_cluster -- --ignored --test-threads 1 --skip the_whole_system

.PHONY: test-system
test-system: kubernetes-cluster ## Run the whole once: real OpenStack with OVN, MultiNIC by Helm on booted nodes (root on Debian 12)
	$(CARGO) build --locked --workspace --bins
	$(MULTINIC) $(STATIC)
	$(AGENT) $(STATIC)
	$(CARGO) test --locked -p multinic-testbed --test real_cluster -- --ignored --nocapture the_whole_system

.PHONY: test-nodes
test-nodes: ## Run the agent on booted nodes with their own udev and network manager (root on Debian 12)
	$(CARGO) build --locked --workspace --bins
	$(CARGO) test --locked -p multinic-host --test managers -- --ignored --test-threads 4
	$(CARGO) test --locked -p multinic-testbed --test guest --test nodes -- --ignored --test-threads 4 --skip how_long_a_nic_takes
	$(MAKE) times

.PHONY: test-vlans
test-vlans: ## Run the tests of VLANs on a kernel that has them, user-mode Linux (root on Debian 12)
	$(CARGO) test --locked -p multinic-host --test vlan -- --ignored --nocapture

.PHONY: times
times: ## Measure how long a NIC takes by the agent, and by the network manager's own way (root on Debian 12)
	$(CARGO) build --locked --workspace --bins
	$(CARGO) test --locked -p multinic-testbed --test nodes -- --ignored how_long_a_nic_takes

.PHONY: generate
generate: ## Write what is generated: deploy/crds, the chart's copies of deploy/, the tables of docs/resources.md
	UPDATE=1 $(CARGO) test --locked -p multinic-api --test generated

# What runs in the cluster. Both images are pulled by these names, so they have to be where the nodes look for them.
KUBECTL ?= kubectl
IMG ?= multinic:latest
AGENT_IMG ?= multinic-agent:latest
WITH_IMAGES = sed -e 's|image: multinic:latest$$|image: $(IMG)|' -e 's|image: multinic-agent:latest$$|image: $(AGENT_IMG)|'

.PHONY: images
images: build ## Make both images without an engine, as OCI archives: target/images/multinic.tar, multinic-agent.tar
	$(CARGO) build --release --locked -p multinic-testbed --bin multinic-images
	target/release/multinic-images target/images target/release/multinic=$(IMG) target/release/multinic-agent=$(AGENT_IMG)

VERSION = $(shell sed -n 's/^appVersion: *//p' charts/multinic/Chart.yaml)
BUNDLE = multinic-$(VERSION)
# The image of the operator's database, which is somebody else's: docs/install.md says how to get it as an archive.
MARIADB_IMAGE = mariadb:10.11
MARIADB_IMAGE_TAR ?=

.PHONY: images-tar
images-tar: ## All for clusters without a network in one file, target/multinic-VERSION.tar: make images-tar MARIADB_IMAGE_TAR=…
	$(MAKE) images IMG=multinic:$(VERSION) AGENT_IMG=multinic-agent:$(VERSION)
	$(MAKE) bundle

# What is in IMAGES, with chart, scripts and page, as one file in BUNDLE_FOLDER.
IMAGES = target/images
BUNDLE_FOLDER = target
.PHONY: bundle
bundle:
	@if [ -z "$(MARIADB_IMAGE_TAR)" ]; then \
	  echo "without MARIADB_IMAGE_TAR: the nodes need $(MARIADB_IMAGE) from elsewhere if the operator is to run the database"; \
	elif ! tar -xOf "$(MARIADB_IMAGE_TAR)" index.json manifest.json 2>/dev/null | grep -q '$(MARIADB_IMAGE)"'; then \
	  echo "$(MARIADB_IMAGE_TAR) is no archive of the image $(MARIADB_IMAGE): see docs/install.md" >&2; exit 1; fi
	rm -rf $(BUNDLE_FOLDER)/$(BUNDLE)
	mkdir -p $(BUNDLE_FOLDER)/$(BUNDLE)/docs $(BUNDLE_FOLDER)/$(BUNDLE)/deploy $(BUNDLE_FOLDER)/$(BUNDLE)/images
	cp $(IMAGES)/multinic.tar $(IMAGES)/multinic-agent.tar $(BUNDLE_FOLDER)/$(BUNDLE)/images
	[ -z "$(MARIADB_IMAGE_TAR)" ] || cp "$(MARIADB_IMAGE_TAR)" $(BUNDLE_FOLDER)/$(BUNDLE)/images/mariadb.tar
	cp -r charts scripts $(BUNDLE_FOLDER)/$(BUNDLE)
	cp docs/install.md docs/install.ko.md $(BUNDLE_FOLDER)/$(BUNDLE)/docs
	cp -r deploy/samples $(BUNDLE_FOLDER)/$(BUNDLE)/deploy
	if $(CARGO) sbom --version >/dev/null 2>&1; then $(MAKE) sbom SBOM=$(BUNDLE_FOLDER)/$(BUNDLE)/sbom; fi
	cd $(BUNDLE_FOLDER)/$(BUNDLE) && find . -type f ! -name SHA256SUMS | LC_ALL=C sort | xargs -d '\n' sha256sum >SHA256SUMS
	tar -C $(BUNDLE_FOLDER) -cf $(BUNDLE_FOLDER)/$(BUNDLE).tar $(BUNDLE)
	rm -r $(BUNDLE_FOLDER)/$(BUNDLE)

.PHONY: test-images
test-images: ## Run the builds that docs/install.md names, and see that they make what it says
	$(CARGO) test --locked -p multinic-testbed --test chart -- --ignored the_builds_of_the_install_page

.PHONY: install
install: ## Put the resource definitions into the cluster of the current kubeconfig
	$(KUBECTL) apply --server-side -k deploy/crds

.PHONY: uninstall
uninstall: ## Take the resource definitions away; FORCE=1 with all objects that are left
	@[ -z "$(FORCE)" ] || exit 0; \
	there="$$($(KUBECTL) get --ignore-not-found -o name -k deploy/crds)" || exit 1; \
	left=(); \
	for definition in $$there; do \
	  found="$$($(KUBECTL) get "$${definition##*/}" -A -o name)" || exit 1; \
	  left+=($$found); \
	done; \
	if (($${#left[@]})); then \
	  printf '%s\n' "$${left[@]}" "There are objects left. Delete them while controller and agents run, which clean up after them," \
	    "or say FORCE=1: the definitions then go when nothing holds the objects any more." >&2; exit 1; fi
	$(KUBECTL) delete --ignore-not-found --wait=false -k deploy/crds

.PHONY: deploy
deploy: ## Put definitions, controller, Viola and agents into the cluster: make deploy IMG=… AGENT_IMG=…
	$(KUBECTL) kustomize deploy/default | $(WITH_IMAGES) | $(KUBECTL) apply --server-side -f -

.PHONY: undeploy
undeploy: ## Take the programs away; objects stay, and nodes keep their NICs
	$(KUBECTL) delete --ignore-not-found -k deploy/programs

.PHONY: lint
lint: fmt-check ## Check formatting, lints, documentation, and scripts (needs shellcheck)
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --quiet
	shellcheck -x scripts/*.sh testbed/kubernetes/build.sh testbed/s3/build.sh .ci/run

.PHONY: fmt
fmt: ## Format the code
	$(CARGO) fmt --all
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml

.PHONY: fmt-check
fmt-check:
	$(CARGO) fmt --all -- --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml -- --check

FUZZ_SECONDS ?= 10
.PHONY: fuzz
fuzz: ## Feed damaged input to every parser of outside text: make fuzz FUZZ_SECONDS=60
	fuzz/run.sh $(FUZZ_SECONDS)

.PHONY: deny
deny: ## Check licences, sources and duplicates of the dependencies (needs cargo-deny)
	$(CARGO) deny --all-features check bans licenses sources

SBOM = target/sbom
.PHONY: sbom
sbom: ## Write what each binary is made of, as CycloneDX: target/sbom (needs cargo-sbom)
	mkdir -p $(SBOM)
	for program in multinic multinic-agent; do \
	  $(CARGO) sbom --cargo-package $$program --output-format cyclone_dx_json_1_4 >$(SBOM)/$$program.cdx.json || exit; done

.PHONY: bench
bench: build-bench ## Measure against the limits of docs/benchmarks.md; fails if one is missed
	target/release/multinic-bench

.PHONY: build-bench
build-bench: build
	$(CARGO) build --release --locked -p multinic-testbed

.PHONY: clean
clean: ## Remove what was built
	$(CARGO) clean
