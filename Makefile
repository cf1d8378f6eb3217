# The two commands: `make demo` and `make test`. Everything they need beyond a Rust toolchain, Node
# and a C compiler is installed by scripts/setup.sh (Debian packages) or by the targets below.

SHELL := /bin/bash
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: demo build web test test-web test-kafka bench lint fmt setup

setup: ## Debian packages that tests and the demo use
	@scripts/setup.sh

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

fmt:
	$(CARGO) fmt --all

test: setup
	$(CARGO) test --workspace
