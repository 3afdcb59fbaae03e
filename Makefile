# Everything runs inside .venv, which `make setup` makes and renews by itself: no target needs anything set up before.
#   make test ARGS="-k relay -x"     passes ARGS to pytest
#   make setup PYTHON=python3.12     chooses the interpreter

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo up down cluster-up cluster-down cluster-packages charts test test-unit test-soak test-cluster check lint types imports format bench fieldtrial clean

ARGS ?=
# What is exported in the caller's shell for another project must not reach into this one.
unexport PYTHONPATH PYTHONHOME DJANGO_SETTINGS_MODULE TASKBRIDGE_APP
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

BIN := .venv/bin
# The folder is part of the key because a virtual environment does not work from anywhere else: not in a copied checkout.
KEY := $(shell { cat pyproject.toml constraints.txt tools/devstack/pom.xml; echo "$(CURDIR)"; } | cksum | tr ' ' '-')
READY := .venv/ready-$(KEY)

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | awk -F '|' '{ printf "%-18s %s\n", $$1, $$2 }'

setup: $(READY) ## Make .venv with all packages, and fetch Kafka's jars; does nothing when both are there

$(READY):
	@python="$(PYTHON)"; \
	for candidate in $${python:-python3 python3.13 python3.12 python3.11}; do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found="$$candidate"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "There is no Python 3.11 or later among: $${python:-python3 python3.13 python3.12 python3.11}." \
			"Install one (Debian, Ubuntu: apt install python3 python3-venv), or name yours: make PYTHON=/path/to/python3.12" >&2; \
		exit 1; \
	fi; \
	echo "Making .venv with $$("$$found" --version) ..."; \
	"$$found" -m venv --clear .venv || { \
		echo "$$found cannot make a virtual environment: install its venv module (Debian, Ubuntu: apt install python3-venv)," \
			"or name another interpreter: make PYTHON=/path/to/python3.12" >&2; \
		exit 1; \
	}
	@echo "Installing the packages of constraints.txt ..."
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[shop,operator,dev]' || { \
		echo "The packages could not be installed: pip's message above says why; behind a proxy or a mirror, tell pip of it" \
			"(PIP_INDEX_URL, HTTPS_PROXY, or pip.conf), then run make again." >&2; \
		exit 1; \
	}
	@test -n "$$TASKBRIDGE_TEST_KAFKA_BOOTSTRAP_SERVERS" || $(BIN)/python -m devstack fetch
	@touch $@

demo: setup ## Watch the shop move two services from Celery to Kafka and back, under load; ends in "ok"
	@$(BIN)/python -m demo $(ARGS)

up: setup ## Start the shop with its services and leave it running; prints the URLs
	@$(BIN)/python -m demo up $(ARGS)

down: setup ## Stop what `make up` started
	@$(BIN)/python -m demo down $(ARGS)

cluster-up: setup ## Start a local Kubernetes of two nodes, built the first time; needs Linux, root and Go 1.26 or later
	@$(BIN)/python -m cluster up $(ARGS)

cluster-down: setup ## End what `make cluster-up` started; nothing is left
	@$(BIN)/python -m cluster down $(ARGS)

cluster-packages: setup ## Install the Debian packages that cluster and images need, not Go; as root on Debian or Ubuntu
	@missing="$$($(BIN)/python -m cluster packages --missing)"; \
	for name in buildah debootstrap; do command -v $$name >/dev/null || missing="$$missing $$name"; done; \
	if [ -n "$$missing" ]; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends $$missing; \
	fi

charts: setup ## Lint, test, score and render every chart, a minute; needs Go 1.26 or later, builds helm the first time
	@$(BIN)/python -m charts check
	@$(BIN)/python -m pytest -n 2 --dist loadfile tests/charts $(ARGS)

test-cluster: setup ## Try everything on two Kubernetes side by side, 22 minutes; needs root, Go, `cluster-packages`
	@$(BIN)/python -m pytest -n 2 -v tests/cluster $(ARGS)

# Test files are shared out between two processes, each with servers of its own: most tests wait more than they compute.
test: setup ## Run unit, contract and integration tests, against real servers; about 12 minutes on 2 cores
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

test-unit: setup ## Run the tests that need no service
	@$(BIN)/python -m pytest -n 2 --dist loadfile tests/unit $(ARGS)

test-soak: setup ## Run the long tests under load, about 7 minutes; wants a quiet machine
	@$(BIN)/python -m pytest tests/soak -s $(ARGS)

check: lint types imports ## Run lint, types and imports

lint: setup ## Check style and formatting with ruff
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup ## Check types with mypy
	@$(BIN)/mypy

imports: setup ## Check who imports whom with import-linter
	@$(BIN)/lint-imports

format: setup ## Format the code, and mend what ruff can mend
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup ## Measure worker, dispatch, relay, autoscaler and sampler; takes minutes, wants a quiet machine
	@$(BIN)/python -m benchmarks.worker $(ARGS)
	@$(BIN)/python -m benchmarks.dispatch $(ARGS)
	@$(BIN)/python -m benchmarks.relay $(ARGS)
	@$(BIN)/python -m benchmarks.autoscaler $(ARGS)
	@$(BIN)/python -m benchmarks.sampler $(ARGS)

fieldtrial: setup ## Try the bridge on Mayan EDMS, somebody else's project; installs it first, takes minutes
	@$(BIN)/python -m fieldtrial $(ARGS)

clean: ## Stop what `make up` and `python -m devstack up` left running; remove .venv, var/ and all caches
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m demo down || true; $(BIN)/python -m devstack down || true; fi
	@rm -rf .venv var build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
