# The two commands: `make demo` and `make test`. Everything they need beyond a Rust toolchain, Node
# and a C compiler is installed by scripts/setup.sh (Debian packages) or by the targets below.

SHELL := /bin/bash
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: web test-web demo drill smoke lint fmt setup py test test-kafka bench fuzz

setup: ## Debian packages that tests and the demo use
	@scripts/setup.sh

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

fmt:
	$(CARGO) fmt --all

demo: setup web ## The whole product with a live pipeline; prints where the page is
	$(CARGO) build --release -p weir
	$(TARGET)/release/weir demo $(ARGS)

# Drill, smoke and the page's tests use the build of the tests. All of them ask for the whole
# workspace with all targets: another choice of packages means other features of the dependencies,
# and those would be compiled again.
BUILD := $(CARGO) build --workspace --all-targets
SEED ?= 1
drill: ## Breaks the pipeline and times the answers: make drill SEED=7, SHORT=1 for four faults
	$(BUILD)
	$(TARGET)/debug/weir drill --seed $(SEED) --json $(if $(SHORT),--short)

smoke: ## Starts a server and asserts signals, lag, page and an alert
	$(BUILD)
	scripts/smoke.sh $(TARGET)/debug/weir

test: setup py
	$(CARGO) test --workspace --features weir-propagate/rdkafka

py: $(TARGET)/py/.ready ## Python with the OpenTelemetry SDK, for the end-to-end tests
$(TARGET)/py/.ready: tests/python/requirements.txt
	python3 -m venv $(TARGET)/py
	$(TARGET)/py/bin/pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

# The jars of tests/kafka/pom.xml, from Maven Central.
KAFKA_JARS := $(abspath $(TARGET))/kafka
$(KAFKA_JARS)/.ready: tests/kafka/pom.xml
	mvn -q -B -f tests/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory=$(KAFKA_JARS)
	@touch $@

test-kafka: setup $(KAFKA_JARS)/.ready ## The embedded broker's suite against a real Apache Kafka
	WEIR_KAFKA_JARS=$(KAFKA_JARS) $(CARGO) test --workspace --features weir-demo/real-kafka --test kafka_real

web: web/node_modules/.ready ## The page, into web/dist, from where the binary embeds it
	cd web && npm run build

web/node_modules/.ready: web/package-lock.json
	cd web && npm ci --no-audit --no-fund
	@touch $@

test-web: setup web ## The page in a real browser against the real binary
	cd web && npm test
	$(BUILD)
	cd web && WEIR_BIN=$(abspath $(TARGET))/debug/weir npm run e2e

bench: py ## The release build against the yardstick; writes docs/benchmarks.md
	$(CARGO) build --release -p weir
	$(TARGET)/py/bin/python scripts/bench --weir $(TARGET)/release/weir --peer $(ARGS)

# cargo-fuzz wants flags of a nightly compiler; the stable one takes them when asked to.
FUZZ_SECONDS ?= 10
fuzz: ## Every fuzz target for FUZZ_SECONDS
	command -v cargo-fuzz >/dev/null || $(CARGO) install --locked cargo-fuzz
	RUSTC_BOOTSTRAP=1 $(CARGO) fuzz build --sanitizer none
	set -eo pipefail; for target in $$($(CARGO) fuzz list); do \
	  echo "fuzz: $$target"; \
	  RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --sanitizer none $$target -- -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=4096 2>&1 | tail -n 3; \
	  done
