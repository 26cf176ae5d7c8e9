# What people do with this repository. `make help` lists it.

.DEFAULT_GOAL := help
.PHONY: help run test test-otel test-e2e screenshots dashboards test-deploy test-observability deb chaos bench lint setup rust

# rustup puts cargo where PATH does not always lead.
export PATH := $(PATH):$(HOME)/.cargo/bin
CARGO ?= cargo
# Where cargo builds.
TARGET := $(or $(CARGO_TARGET_DIR),./target)

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: setup ## Build Kindler and run it with a private Postgres; Ctrl-C stops both
	$(CARGO) build --locked --release
	@exec $(TARGET)/release/kindler dev

test: rust ## Run all tests, against a real Postgres and a real pgbouncer
	@sh deploy/setup.sh test
	$(CARGO) test --locked --lib --bins --tests --examples
	$(CARGO) test --locked --doc

chaos: rust ## Run the fault tests in their long form (about two hours)
	@sh deploy/setup.sh test
	KINDLER_CHAOS=long KINDLER_CHAOS_REPORT=target/chaos.txt \
		$(CARGO) test --locked --test suite -- --test-threads=8 faults:: reconcile::failover:: an_idle_system
	@cat target/chaos.txt

test-e2e: setup ## Test the page in a real browser (Chromium), against the real daemon
	@sh deploy/setup.sh e2e
	$(CARGO) build --locked
	cd tests/e2e && npm ci --no-audit --no-fund && KINDLER_BIN="$(abspath $(TARGET))/debug/kindler" npm test

screenshots: setup ## Take the pictures in docs/screenshots of the real page
	@sh deploy/setup.sh e2e
	$(CARGO) build --locked
	cd tests/e2e && npm ci --no-audit --no-fund && KINDLER_BIN="$(abspath $(TARGET))/debug/kindler" node screenshots.mjs

test-otel: rust ## Test the export of traces, which is built with --features otel only
	@sh deploy/setup.sh test
	$(CARGO) test --locked --features otel --test suite telemetry::traces

dashboards: setup ## Draw the pictures in docs/dashboards from live data (about four minutes)
	@sh deploy/setup.sh e2e
	@sh deploy/setup.sh observability
	$(CARGO) build --locked
	cd tests/e2e && npm ci --no-audit --no-fund && KINDLER_BIN="$(abspath $(TARGET))/debug/kindler" node dashboards.mjs

test-deploy: setup ## Check what deploy/ ships with the tools that will read it
	@sh deploy/setup.sh deploy
	REQUIRE_TOOLS=1 $(CARGO) test --locked --test suite deploy::

test-observability: rust ## Test alerts, runbooks and dashboards with Prometheus and Alertmanager
	@sh deploy/setup.sh test
	@sh deploy/setup.sh observability
	REQUIRE_TOOLS=1 $(CARGO) test --locked --test suite observability::

deb: setup ## Build the Debian package, into target/debian
	$(CARGO) build --locked --release
	@BINARY=$(TARGET)/release/kindler sh deploy/debian/build.sh

bench: setup ## Run the benchmarks, of the daemon and of the page in a real browser
	@sh deploy/setup.sh e2e
	$(CARGO) bench --locked
	$(CARGO) build --locked --release
	cd tests/e2e && npm ci --no-audit --no-fund && KINDLER_BIN="$(abspath $(TARGET))/release/kindler" node speed.mjs

lint: setup ## Check the formatting and the lints, as CI does
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --all-targets --features otel -- -D warnings

setup: rust ## Install what is missing: a C compiler, the Postgres server programs
	@sh deploy/setup.sh

rust:
	@command -v $(CARGO) >/dev/null || { \
		echo "Kindler is built with Rust, and cargo was not found. To install it:"; \
		echo "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y"; \
		echo "and run make again. (See https://rustup.rs)"; \
		exit 1; } >&2
	@need=$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml); \
	have=$$($(CARGO) --version | cut -d ' ' -f 2); \
	printf '%s\n' "$$need" "$$have" | sort -VC || { \
		echo "Kindler needs Rust $$need or newer, but cargo is of version '$$have'."; \
		echo "Update it with: rustup update stable (see https://rustup.rs)"; \
		exit 1; } >&2
