.DEFAULT_GOAL := help
.PHONY: help setup run test format lint types tests synth fix lock contracts layers deploy bench fuzz simulate mutants clean
SHELL := /bin/bash -o pipefail
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# A Python of 3.11 or newer; `make PYTHON=/path/to/python` chooses another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
ENV ?= dev
INPUTS ?= 1000000
SEEDS ?= 200
CODE := app.py infra cli functions layers/core layers/adapters layers/pipelines tests benchmarks

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: .venv/.installed ## a virtual environment with everything, locked and hashed

.venv/.installed: requirements.lock requirements-bootstrap.lock pyproject.toml $(wildcard layers/core/kernel/*.[ch]) infra/build_kernel.py
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or name it with make PYTHON=..."; exit 2; }
	$(PYTHON) -m venv .venv
	@command -v uv >/dev/null || pip install -q --require-hashes -r requirements-bootstrap.lock
	VIRTUAL_ENV=$(CURDIR)/.venv uv pip sync -q --compile-bytecode --require-hashes requirements.lock
	VIRTUAL_ENV=$(CURDIR)/.venv uv pip install -q --no-deps --no-build-isolation -e .
	python -m infra.build_kernel
	@touch $@

run: setup ## the whole loop on this machine: out/run/report.html and summary.json
	retrodict run

test: setup format lint types tests synth ## everything CI runs

format: setup
	ruff format --check $(CODE)

lint: setup
	ruff check $(CODE)

types: setup
	mypy layers/core/python/retrodict layers/adapters/python/retrodict_aws layers/pipelines/python/pipelines
	mypy infra cli benchmarks
	mypy tests
	for f in functions/*/; do MYPYPATH=$$f mypy $$f || exit 1; done

tests: setup
	pytest -q -n 2 --dist loadfile --ignore=tests/contract --ignore=tests/e2e
	pytest -q tests/contract tests/e2e

synth: setup ## the templates of every environment, linted; needs no AWS account
	python app.py
	cfn-lint --non-zero-exit-code error 'cdk.out/assembly-*/*.template.json'

fix: setup ## what a machine can fix
	ruff check --fix $(CODE); ruff format $(CODE)

lock: setup ## resolve requirements.txt again
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header requirements.txt -o requirements.lock

contracts: setup ## publish the pipelines' contracts under events/
	python -m cli.publish

layers: setup ## the layers' third-party packages, for Lambda; no Docker
	python -m infra.build_kernel --lambda
	python -m infra.build_layers

deploy: layers ## deploy one environment: make deploy ENV=dev
	npm ci
	npx cdk deploy "Retrodict-$(ENV)/*"

bench: setup ## what one machine carries, and what others reach beside it
	python benchmarks/spine.py
	python benchmarks/inference.py
	python benchmarks/validation.py
	python benchmarks/parquet.py
	python benchmarks/compaction.py --runs 3
	python -m benchmarks.online_store
	python -m benchmarks.reading
	python benchmarks/features.py
	python benchmarks/features.py --only bulk --events 10000000 --peers polars
	python benchmarks/rebuild.py
	python benchmarks/training_sets.py
	python benchmarks/training_sets.py --rows 10000000 --runs 3 --limit 60

fuzz: setup ## throw INPUTS=1000000 inputs at the validator, judged by an oracle
	python -m tests.fuzz --inputs $(INPUTS)

simulate: setup ## seeds of faults against the real handlers: make simulate SEEDS=10000
	python -m tests.simulation --seeds $(SEEDS)

mutants: setup ## put each known defect into a copy, and see the tests catch it
	python -m tests.mutants

clean:
	rm -rf .venv cdk.out .retrodict node_modules layers/dependencies/*/python
