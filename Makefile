# Targets for developers. `make help` lists them.

.DEFAULT_GOAL := help
.PHONY: help run test test-servers test-otel test-engine test-docker test-e2e screenshots dashboards test-deploy test-observability deb steady chaos faults bench lint setup rust

# rustup installs cargo there, and PATH may lack it.
export PATH := $(PATH):$(HOME)/.cargo/bin
CARGO ?= cargo
# The target folder of cargo.
TARGET := $(or $(CARGO_TARGET_DIR),./target)

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: setup ## Build Kindler and run it with a private Postgres; Ctrl-C stops both
	$(CARGO) build --locked --release
	@exec $(TARGET)/release/kindler dev

test: rust ## Run the Rust tests, with a real Postgres and a real pgbouncer
	@sh deploy/setup.sh test
	$(CARGO) test --locked --lib --bins --tests --examples
	$(CARGO) test --locked --doc

chaos: rust ## Run the fault tests in their long form (about two hours)
	@sh deploy/setup.sh test
	KINDLER_CHAOS=long KINDLER_CHAOS_REPORT=target/chaos.txt \
		$(CARGO) test --locked --test suite -- --test-threads=8 faults:: reconcile::failover:: an_idle_system \
		that_changes_its
	@# Only Postgres 17 and newer can make the notification queue small.
	@sh deploy/setup.sh servers
	SERVERS=18 KINDLER_CHAOS=long KINDLER_CHAOS_REPORT=$(abspath target/chaos.txt) \
		tests/servers/on_each.sh $(CARGO) test --locked --test suite -- faults::full_queue
	@cat target/chaos.txt

steady: rust ## Run each test alone 30 times, to find those that fail now and then (ten hours)
	@sh deploy/setup.sh test
	tests/steady.sh

faults: rust ## Induce 25 faults and show cause and next step of each, as docs/FAULTS.md lists them
	@sh deploy/setup.sh test
	FAULTS_REPORT=$(abspath $(TARGET))/faults.md \
		$(CARGO) test --locked --test suite -- --ignored --nocapture --exact induced::every_fault_shows_its_cause_and_the_next_step

test-e2e: setup ## Test the page in Chromium, with a real daemon
	@sh deploy/setup.sh e2e
	$(CARGO) build --locked
	cd tests/e2e && npm ci --no-audit --no-fund && KINDLER_BIN="$(abspath $(TARGET))/debug/kindler" npm test

screenshots: setup ## Renew the pictures of the page in docs/screenshots
	@sh deploy/setup.sh e2e
	$(CARGO) build --locked
	cd tests/e2e && npm ci --no-audit --no-fund && KINDLER_BIN="$(abspath $(TARGET))/debug/kindler" node screenshots.mjs

# The tests that speak to Postgres. CI runs those in which the server's version matters most.
ON_SERVERS := schema:: reconcile:: steps:: controller:: faults:: embedded_postgres:: api::

test-servers: rust ## Run the tests of the database on the oldest and the newest Postgres (13 and 18)
	@sh deploy/setup.sh test
	@sh deploy/setup.sh servers
	tests/servers/on_each.sh $(CARGO) test --locked --test suite -- $(ON_SERVERS)

test-engine: rust ## Test real clusters on a private container engine (needs root)
	@sh deploy/setup.sh test
	@sh deploy/setup.sh engine
	$(CARGO) test --locked --test suite --no-run
	tests/engine/with_engine.sh $(CARGO) test --locked --test suite -- --ignored --test-threads=4 native

test-docker: rust ## The same with the docker, k3d and kind of this machine, which must have no clusters
	@sh deploy/setup.sh test
	$(CARGO) test --locked --test suite --no-run
	tests/engine/with_docker.sh $(CARGO) test --locked --test suite -- --ignored --test-threads=2 \
		driver::native native::lifecycle native::ownership

test-otel: rust ## Test the export of traces (built with --features otel)
	@sh deploy/setup.sh test
	$(CARGO) test --locked --features otel --test suite telemetry::traces

dashboards: setup ## Renew the pictures in docs/dashboards from live data (about four minutes)
	@sh deploy/setup.sh e2e
	@sh deploy/setup.sh observability
	$(CARGO) build --locked
	cd tests/e2e && npm ci --no-audit --no-fund && KINDLER_BIN="$(abspath $(TARGET))/debug/kindler" node dashboards.mjs

test-deploy: setup ## Check the files of deploy/ with the tools that read them
	@sh deploy/setup.sh deploy
	REQUIRE_TOOLS=1 $(CARGO) test --locked --test suite deploy::

test-observability: rust ## Test alerts, runbooks and dashboards with Prometheus and Alertmanager
	@sh deploy/setup.sh test
	@sh deploy/setup.sh observability
	REQUIRE_TOOLS=1 $(CARGO) test --locked --test suite observability::

deb: setup ## Build the Debian package in target/debian
	$(CARGO) build --locked --release
	@BINARY=$(TARGET)/release/kindler sh deploy/debian/build.sh

bench: setup ## Run the benchmarks of the daemon, and of the page in Chromium
	@sh deploy/setup.sh e2e
	$(CARGO) bench --locked
	$(CARGO) build --locked --release
	cd tests/e2e && npm ci --no-audit --no-fund && KINDLER_BIN="$(abspath $(TARGET))/release/kindler" node speed.mjs

lint: setup ## Check formatting and lints, as CI does
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --all-targets --features otel -- -D warnings

setup: rust ## Install what is missing: a C compiler, the Postgres server programs
	@sh deploy/setup.sh

rust:
	@command -v $(CARGO) >/dev/null || { \
		echo "Kindler is built with Rust, and cargo was not found. To install it:"; \
		echo "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y"; \
		echo "Then run make again. (See https://rustup.rs)"; \
		exit 1; } >&2
	@need=$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml); \
	have=$$($(CARGO) --version | cut -d ' ' -f 2); \
	printf '%s\n' "$$need" "$$have" | sort -VC || { \
		echo "Kindler needs Rust $$need or newer; the installed cargo is version '$$have'."; \
		echo "Update it with: rustup update stable (see https://rustup.rs)"; \
		exit 1; } >&2
