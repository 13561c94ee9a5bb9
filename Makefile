# The commands that everybody needs. Each may be run as often as one likes; nothing outside this folder is changed, but
# for packages that tools/setup may have to install.

CARGO ?= cargo
TARGET = $(or $(CARGO_TARGET_DIR),target)

.PHONY: help setup build demo test lint docs bench

help:
	@echo "make demo    a cluster of four, and certified mails through it, explained step by step"
	@echo "make test    all tests"
	@echo "make build   fairpostd, fairpost and fairpostctl, in $(TARGET)/debug"
	@echo "make lint    formatting, clippy, licenses, duplicates, and who may name which library"
	@echo "make bench   how fast it is, beside its bound, beside etcd and as it grows: writes docs/performance.md; takes about 12 minutes"
	@echo "make docs    the API documentation, in $(TARGET)/doc"

setup:
	@tools/setup

# One profile for demo and tests, so that nothing is compiled twice: see docs/decisions/007.
build: setup
	$(CARGO) build --locked --workspace --bins

demo: build
	$(TARGET)/debug/fairpost demo

test: build
	tools/setup test
	$(CARGO) test --locked --workspace

lint: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	tools/check-deps

# Alone on the machine, please.
bench: build
	tools/setup bench
	$(CARGO) build --locked -p fairpost-tests --example etcd_load --example fill
	tools/bench

docs: setup
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps
