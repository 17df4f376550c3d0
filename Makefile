# `make demo` and `make test` are all a newcomer needs; both do the set-up. What they fetch and build lies outside the
# checkout, in the cache folder. Settings: STRATAGEM_CACHE, CARGO_TARGET_DIR, DEVICE (auto, cpu, cuda), CARGO_FLAGS (--locked).
XDG_CACHE_HOME ?= $(HOME)/.cache
STRATAGEM_CACHE ?= $(XDG_CACHE_HOME)/stratagem
CARGO_TARGET_DIR ?= $(STRATAGEM_CACHE)/target
export STRATAGEM_CACHE CARGO_TARGET_DIR

PYTHON ?= python3
CARGO ?= cargo
CARGO_FLAGS ?=
CARGO_DENY_VERSION := 0.20.2
STRATAGEM := $(CARGO_TARGET_DIR)/debug/stratagem
TOOLS := $(STRATAGEM_CACHE)/tools
CACHE := $(PYTHON) setup/cache.py

.PHONY: help demo test serve setup doctor bench docs lint lint-format lint-clippy lint-rustdoc lint-deny assets program build data clean-cache
.NOTPARALLEL:

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

demo: data ## set up, build, then run sql/demo.sql against a server of its own
	@"$(STRATAGEM)" demo

test: data ## set up, build, then run every test
	@$(PYTHON) -m unittest discover --buffer --start-directory setup
	@if $(CARGO) nextest --version >/dev/null 2>&1; \
	then $(CARGO) nextest run --workspace $(CARGO_FLAGS) $(NEXTEST_FLAGS); \
	else $(CARGO) test --workspace --lib --bins --tests $(CARGO_FLAGS); fi
	$(CARGO) test --workspace --doc $(CARGO_FLAGS)

serve: data ## set up, build, then serve the sample tables on 127.0.0.1:5433 until Ctrl-C
	@"$(STRATAGEM)" serve --data "$(STRATAGEM_CACHE)/data" $(SERVE_FLAGS)

setup: ## fetch and build everything, hash every file again, repair what is missing or damaged
	@$(CACHE) assets --verify
	@$(MAKE) --no-print-directory program
	@$(CACHE) data --verify --stratagem "$(STRATAGEM)"

doctor: program ## print what is installed, the runtime and device in use, and what is wrong
	@"$(STRATAGEM)" doctor

bench: data ## run benches/ side by side with their peers; ratios first, results kept in benches/results/
	@$(PYTHON) benches/run.py $(BENCH)

docs: program ## generate the SQL reference and, where mdbook is installed, the book
	@"$(STRATAGEM)" reference > docs/src/reference.md.new && mv docs/src/reference.md.new docs/src/reference.md
	@if command -v mdbook >/dev/null; then mdbook build docs --dest-dir "$(STRATAGEM_CACHE)/book"; \
	else echo "docs: docs/src/reference.md is written; the book needs mdbook (cargo install mdbook)"; fi

lint: lint-format lint-clippy lint-rustdoc lint-deny ## formatting, clippy and rustdoc without warnings, licences of dependencies

lint-format:
	$(CARGO) fmt --all --check

lint-clippy:
	$(CARGO) clippy --workspace --all-targets $(CARGO_FLAGS) -- -D warnings

lint-rustdoc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps $(CARGO_FLAGS)

lint-deny:
	@PATH="$$PATH:$(TOOLS)/bin" command -v cargo-deny >/dev/null || \
	$(CARGO) install --locked cargo-deny@$(CARGO_DENY_VERSION) --root "$(TOOLS)"
	PATH="$$PATH:$(TOOLS)/bin" cargo-deny --workspace check licenses bans sources

assets:
	@$(CACHE) assets

program:
	$(CARGO) build --workspace --bins --tests $(CARGO_FLAGS)

build: assets program

data: build
	@$(CACHE) data --stratagem "$(STRATAGEM)"

clean-cache: ## delete what was fetched and built (trained models and your own data stay)
	@$(CACHE) clean
