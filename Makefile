# `make` lists the targets. The first one that needs tools makes .venv from the locked packages and, where cargo is found,
# fetches the crates of the core, of its fuzz targets and of loadtest/. While locks and tools stay as they are, a network
# is then used by `make lock`, by `make bench-core` for the engines beside ours, by `make bench-backend` for another gRPC
# server, by `make loadtest-tools` for ghz and grpcurl, and by nothing else; a crate that a new lock names, or that a
# cargo which came later lacks, is fetched by the first target that builds it. `make fuzz` needs cargo-fuzz, which it asks
# for and does not fetch.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
CODE := src tests tools loadtest

# The interpreter that .venv is made from: the newest that runs, is 3.11 or later and can make an environment; else
# the newest that is at least 3.11, so that the message can say what it lacks.
PYTHON ?= $(shell \
	for needed in "import venv, ensurepip" ""; do \
		for python in python3.14 python3.13 python3.12 python3.11 python3; do \
			if $$python -c "import sys; assert sys.version_info >= (3, 11); $$needed" >/dev/null 2>&1; then \
				echo $$python; exit; \
			fi; \
		done; \
	done)

# The core in Rust is built where a cargo is found that can build it; without it everything runs on the reference.
CRATE := src/exchange-core
CRATE_SOURCES = $(shell find $(CRATE) -name target -prune -o -name exchange_core.data -prune -o -name fuzz -prune -o \
	\( -path "*/src/*" -o -path "*/.cargo/*" -o -name "Cargo.*" -o -name pyproject.toml -o -name "*.pyi" \) -type f -print)
# What `make test-core` looks at besides; the last is what `make bench-path` sends with. It is fetched with .venv and never asked for when the core is built.
CHECKED := $(wildcard $(CRATE)/fuzz loadtest/flow loadtest/core loadtest/generator)
# A network is asked only where a crate of a Cargo.lock was never fetched; the argument names further folders.
FETCH = for part in $(CRATE) $(CRATE)/ifma $(1); do \
	( cd $$part && { $(CARGO) fetch --quiet --locked --offline 2>/dev/null || $(CARGO) fetch --quiet --locked; } ); done
# The verifier in lanes is a library of its own, built for processors that have what it needs and loaded by those alone.
IFMA := $(filter Linux-x86_64,$(shell uname -s)-$(shell uname -m))
CORE_BUILT := $(VENV)/.core
RUST_MIN := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' $(CRATE)/Cargo.toml)
CARGO ?= $(shell found=$$(cargo --version 2>/dev/null | cut -d " " -f 2); \
	[ "$$(printf '%s\n' $(RUST_MIN) "$$found" | sort -V | head -n 1)" != $(RUST_MIN) ] || echo cargo)
CORE := $(if $(CARGO),$(CORE_BUILT),no-core)

DEMO_ARGS ?=
UP_ARGS ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
GHZ_ARGS ?=
CARGO_TEST_ARGS ?=
DIFFERENTIAL_ARGS ?=
FUZZ_ARGS ?=
FUZZ_TARGETS ?= apply_commands apply_frames order_frame batch operation link genesis execution_frame state checkpoint ingress
VECTORS_ARGS ?=
LOCK_ARGS ?=
SIZE ?= 1
# Said here, where it is a word, and not by the arithmetic of a shell somewhere below.
ifneq ($(SIZE),1)
ifneq ($(shell [[ '$(subst ','\'',$(SIZE))' =~ ^[1-9][0-9]{0,5}$$ ]] && echo whole),whole)
$(error SIZE=$(SIZE): a whole number from 1 to 999999, such as SIZE=10)
endif
endif
PLANTED_ARGS ?=
PROCESSES ?= $(shell nproc 2>/dev/null || echo 1)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: $(CORE) ## run the whole exchange, send order flow through it, audit it (DEMO_ARGS="--orders 2000")
	@$(BIN)/clob demo $(DEMO_ARGS)

.PHONY: test
test: $(CORE) ## run the tests, on all cores (PYTEST_ARGS="-k nonce")
	@$(BIN)/python -m pytest -n auto -m "not long" $(PYTEST_ARGS)

.PHONY: test-long
test-long: $(CORE) ## run the tests that take minutes (SIZE=10 for ten times the cases)
	@CLOB_TEST_SIZE=$(SIZE) $(BIN)/python -m pytest -n auto -m long $(PYTEST_ARGS)

.PHONY: up
up: $(CORE) ## run the exchange until Ctrl-C (UP_ARGS="--data-dir DIR")
	@$(BIN)/clob up $(UP_ARGS)

.PHONY: bench
bench: $(if $(CARGO),$(CORE_BUILT),core-missing) ## measure orders per second through all services, signed singly (BENCH_ARGS="--seconds 20")
	@$(BIN)/python -m loadtest.bench_path $(BENCH_ARGS)

.PHONY: bench-path
bench-path: $(if $(CARGO),$(CORE_BUILT),core-missing) ## the same at 512, 64 and 1 orders a signature, and latency by load, in ten minutes
	@$(BIN)/python -m loadtest.bench_path --set $(BENCH_ARGS)

.PHONY: overload
overload: $(if $(CARGO),$(CORE_BUILT),core-missing) ## offer more than there is room for, and attack, SIZE x 10 s a load (OVERLOAD_ARGS="--unary")
	@$(BIN)/python -m loadtest.bench_overload --seconds $$((10 * $(SIZE))) $(OVERLOAD_ARGS)

.PHONY: profile
profile: $(if $(CARGO),$(CORE_BUILT),core-missing) ## record flame graphs of every process under load (PROFILE_ARGS="--per-signature 512")
	@$(BIN)/python -m loadtest.profile_path $(PROFILE_ARGS)

.PHONY: bench-reference
bench-reference: $(INSTALLED) ## measure commands per second on the reference engine alone (BENCH_ARGS)
	@$(BIN)/python -m loadtest.bench_reference $(BENCH_ARGS)

.PHONY: core
core: $(if $(CARGO),$(CORE_BUILT),core-missing) ## build the core in Rust and install its wheel in .venv

# Clippy links nothing: a library that is not there spares compiling libFuzzer, which is in C++.
NO_FUZZER := CUSTOM_LIBFUZZER_PATH=/nonexistent/libfuzzer.a

.PHONY: test-core
test-core: export PYO3_PYTHON := $(CURDIR)/$(BIN)/python
test-core: $(if $(CARGO),$(INSTALLED),core-missing) ## check the crates' format, run clippy, run their own tests
	@cd $(CRATE) && $(CARGO) fmt --check
	@cd $(CRATE) && $(CARGO) clippy --quiet --locked --all-targets --all-features -- -D warnings
	@cd $(CRATE)/ifma && $(CARGO) fmt --check
	@$(if $(IFMA),cd $(CRATE)/ifma && $(CARGO) clippy --quiet --locked -- -D warnings)
	@cd $(CRATE)/fuzz && $(CARGO) fmt --check
	@cd $(CRATE)/fuzz && $(NO_FUZZER) $(CARGO) clippy --quiet --locked -- -D warnings
	@cd $(CRATE) && $(CARGO) test --quiet --locked $(CARGO_TEST_ARGS)
	@for folder in loadtest/flow loadtest/core loadtest/generator; do \
		(cd $$folder && $(CARGO) fmt --check && $(CARGO) clippy --quiet --locked --all-targets -- -D warnings && \
			$(CARGO) test --quiet --locked) || exit 1; \
	done

.PHONY: bench-core
bench-core: $(if $(CARGO),$(CORE_BUILT),core-missing) ## measure the core beside published engines (BENCH_ARGS="--short"; the peers need g++)
	@$(BIN)/python -m loadtest.bench_core $(BENCH_ARGS)

.PHONY: bench-verify
bench-verify: $(if $(CARGO),$(CORE_BUILT),core-missing) ## measure signatures a second beside other libraries, in two minutes (BENCH_ARGS)
	@$(BIN)/python -m loadtest.bench_verify $(BENCH_ARGS)

# Tools that send load, built from Go modules at versions of our choice, into a folder that is not committed.
TOOLS := .tools/bin
GHZ := ghz-v0.120.0
GRPCURL := grpcurl-v1.9.3

.PHONY: loadtest-tools
loadtest-tools: $(TOOLS)/$(GHZ) $(TOOLS)/$(GRPCURL) ## build ghz and grpcurl into .tools/bin where missing (needs Go)

$(TOOLS)/$(GHZ): MODULE := github.com/bojand/ghz/cmd/ghz
$(TOOLS)/$(GRPCURL): MODULE := github.com/fullstorydev/grpcurl/cmd/grpcurl
$(TOOLS)/$(GHZ) $(TOOLS)/$(GRPCURL):
	@command -v go >/dev/null || { \
		echo "ghz and grpcurl are built with Go, and there is no go on the PATH: install it" >&2; exit 1; }
	@echo "Building $(@F) (once; needs a network)" >&2
	@mkdir -p $(@D)
	@GOBIN="$(CURDIR)/$(@D)" GOFLAGS="-mod=mod $${GOFLAGS:-}" go install $(MODULE)@$(lastword $(subst -, ,$(@F)))
	@mv $(@D)/$(notdir $(MODULE)) $@
	@ln -sf $(@F) $(@D)/$(notdir $(MODULE))

.PHONY: ghz
ghz: $(CORE) $(if $(shell PATH="$(TOOLS):$$PATH" command -v ghz),,$(TOOLS)/$(GHZ)) ## measure calls a second with ghz, SIZE x 2,000 a run, and check the ledger (GHZ_ARGS)
	@$(BIN)/python -m loadtest.bench_ghz --calls $$(( $(SIZE) * 2000 )) $(GHZ_ARGS)

# The other server lies beside .venv, so that the exchange cannot come to need it.
BACKEND := build/bench-backend/site
$(BACKEND): loadtest/backend.txt $(INSTALLED)
	@rm -rf $@
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes --target $@ --requirement $<
	@touch $@

.PHONY: bench-backend
bench-backend: $(CORE) $(if $(shell PATH="$(TOOLS):$$PATH" command -v ghz),,$(TOOLS)/$(GHZ)) $(BACKEND) ## measure grpcio beside another server, then both under ill will (BENCH_ARGS="--no-hostile")
	@$(BIN)/python -m loadtest.bench_backend $(BENCH_ARGS)

.PHONY: differential
differential: $(if $(CARGO),$(CORE_BUILT),core-missing) ## compare the core with the reference over SIZE x 200,000 commands (DIFFERENTIAL_ARGS)
	@$(BIN)/python -m tests.differential --commands $$(( $(SIZE) * 200000 )) --processes $(PROCESSES) $(DIFFERENTIAL_ARGS)

.PHONY: compare-verifiers
compare-verifiers: $(if $(CARGO),$(INSTALLED),core-missing) ## compare verdicts of all paths and the reference on SIZE x 100,000 signatures
	@$(BIN)/python -m tools.compare_verifiers --count $$(( $(SIZE) * 100000 ))

.PHONY: planted
planted: $(if $(CARGO),$(INSTALLED),core-missing) ## plant bugs into the core: how soon is each found (PLANTED_ARGS="fee fok")
	@$(BIN)/python -m tests.differential.planted $(PLANTED_ARGS)

.PHONY: worst
worst: $(if $(CARGO),$(CORE_BUILT),core-missing) ## time the most that one entry can ask of the core
	@$(BIN)/python -m tests.differential.worst

# RUSTC_BOOTSTRAP lets the stable compiler take the flags of sanitizer and fuzzer.
.PHONY: fuzz
fuzz: export RUSTC_BOOTSTRAP := 1
fuzz: $(if $(CARGO),$(INSTALLED),core-missing) ## fuzz every decoder and apply, SIZE seconds each (FUZZ_TARGETS=batch; needs cargo-fuzz)
	@$(CARGO) fuzz --version >/dev/null 2>&1 || { \
		echo "The fuzzer needs cargo-fuzz, and this cargo does not have it: cargo install cargo-fuzz" >&2; exit 1; }
	@$(BIN)/python $(CRATE)/fuzz/seeds.py --unpack
	@cd $(CRATE) && $(CARGO) fuzz build
	@cd $(CRATE) && for target in $(FUZZ_TARGETS); do \
		$(CARGO) fuzz run $$target -- -max_total_time=$(SIZE) -max_len=4096 -print_final_stats=1 $(FUZZ_ARGS); \
	done

.PHONY: gen
gen: $(INSTALLED) ## regenerate gen/ from proto/
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/buf generate

.PHONY: gen-check
gen-check: $(INSTALLED) ## fail when gen/ is not what proto/ generates
	@rm -rf build/gen-check
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/buf generate --output build/gen-check
	@diff -r -u -x __pycache__ gen build/gen-check/gen || \
		{ echo "gen/ differs from what proto/ generates: run 'make gen' and commit the result" >&2; exit 1; }

.PHONY: format
format: $(INSTALLED) ## rewrite Python and proto files in the project's format, sort imports, apply safe fixes
	@$(BIN)/ruff check --quiet --fix-only
	@$(BIN)/ruff format --quiet
	@$(BIN)/buf format --write

.PHONY: format-check
format-check: $(INSTALLED) ## fail when `make format` would change the layout of a file
	@$(BIN)/ruff format --check
	@$(BIN)/buf format --diff --exit-code

.PHONY: lint
lint: format-check ## check Python with ruff and proto with buf, and their format
	@$(BIN)/ruff check
	@$(BIN)/buf lint

# With a warm cache mypy can miss a module that is new in its package (python/mypy#20799), so what fails is judged
# again without one.
.PHONY: types
types: $(INSTALLED) ## check types with mypy
	@if found=$$($(BIN)/mypy $(wildcard $(CODE))); then echo "$$found"; \
	else rm -rf .mypy_cache; $(BIN)/mypy $(wildcard $(CODE)); fi

.PHONY: imports
imports: $(INSTALLED) ## check that imports point one way
	@$(BIN)/lint-imports --no-logo

.PHONY: vectors
vectors: $(INSTALLED) ## compare tests/vectors with what the code makes (VECTORS_ARGS=--write to replace them)
	@$(BIN)/python tests/vectors/regenerate.py $(VECTORS_ARGS)

.PHONY: lock
lock: $(INSTALLED) ## pin what pyproject.toml asks for, with hashes (LOCK_ARGS=--upgrade; needs a network)
	@$(BIN)/uv pip compile $(LOCK_FLAGS) --extra dev --output-file requirements/dev.txt pyproject.toml $(LOCK_ARGS)
	@$(BIN)/uv pip compile $(LOCK_FLAGS) --constraints requirements/dev.txt \
		--output-file requirements/runtime.txt pyproject.toml

LOCK_FLAGS := --quiet --universal --generate-hashes --python-version 3.11 --custom-compile-command "make lock"

.PHONY: clean
clean: ## remove caches and build output, keep .venv
	@rm -rf build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@rm -rf $(CRATE)/target $(CRATE)/ifma/target $(CRATE)/fuzz/target $(CRATE)/exchange_core.data loadtest/core/target \
		loadtest/generator/target
	@find src tests tools gen $(wildcard loadtest) -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## remove .venv and .tools as well
	@rm -rf $(VENV) $(dir $(TOOLS)) *.egg-info

# Everything installed is pinned by hash in requirements/dev.txt. The project itself is installed in place; the .pth
# file names its two source roots, since setuptools would map only the packages that exist at that moment.
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

$(INSTALLED): requirements/dev.txt pyproject.toml
# A folder that was moved or copied has an environment that points to where it was: it is made anew.
ifneq ($(shell cat $(INSTALLED) 2>/dev/null),$(CURDIR))
$(INSTALLED): FORCE
FORCE:
endif

$(INSTALLED):
	@python="$(PYTHON)"; \
	if [ -z "$$python" ]; then \
		echo "No Python 3.11 or later found: install one (Debian, Ubuntu: apt-get install python3 python3-venv)" >&2; \
		echo "or name it: make PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi; \
	if ! "$$python" -c "import sys; sys.exit(sys.version_info < (3, 11))"; then \
		echo "PYTHON=$$python does not run or is older than 3.11; name another: make PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi; \
	if ! "$$python" -c "import venv, ensurepip" 2>/dev/null; then \
		echo "$$python cannot make virtual environments: install its venv module" >&2; \
		echo "(Debian, Ubuntu: apt-get install python3-venv)" >&2; \
		exit 1; \
	fi; \
	if [ "$$(cat $@ 2>/dev/null)" != "$(CURDIR)" ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		echo "Making $(VENV) with $$("$$python" --version) (once; needs a network)" >&2; \
		"$$python" -m venv --clear $(VENV); \
	fi
	@$(PIP) install --require-hashes --requirement requirements/dev.txt
	@$(PIP) install --no-deps --no-build-isolation --no-index --editable .
	@$(if $(CARGO),$(call FETCH,$(CHECKED)))
	@printf '%s\n' "$(CURDIR)/src" "$(CURDIR)/gen/python" \
		>"$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/clob-roots.pth"
	@echo "$(CURDIR)" >$@

# One line, and everything goes on without it.
.PHONY: no-core
no-core: $(INSTALLED)
	@echo "No cargo $(RUST_MIN) or later: everything runs on the reference: the same bytes, slower (rustup has a cargo)" >&2

.PHONY: core-missing
core-missing:
	@echo "The core needs Rust $(RUST_MIN) or later, and there is no such cargo on the PATH: install it with rustup" >&2
	@exit 1

WHEELS := build/wheels

# make runs this once where a source, the lock or the stub is newer than the module that is installed.
$(CORE_BUILT): $(INSTALLED) $(CRATE_SOURCES)
	@echo "Building the core in Rust (when its sources change; a minute the first time)" >&2
	@$(call FETCH)
	@rm -rf $(WHEELS) $(CRATE)/exchange_core.data
	@$(if $(IFMA),cd $(CRATE)/ifma && $(CARGO) build --quiet --release --locked --offline --target-dir ../target/ifma && \
		install -D ../target/ifma/release/libexchange_ifma.so -t ../exchange_core.data/platlib/exchange_core/lib)
	@cd $(CRATE) && { said=$$($(CURDIR)/$(BIN)/maturin build --release --locked --offline \
		--out $(CURDIR)/$(WHEELS) 2>&1) || { echo "$$said" >&2; exit 1; }; }
	@$(PIP) install --no-deps --no-index --force-reinstall $(WHEELS)/exchange_core-*.whl
	@touch $@
