# The verbs of this project. `make` alone lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
EXTRAS = dev
CONSTRAINTS = constraints.txt

# What `make train` runs; each can be given on the command line: make train ENV=Hopper-v5 STEPS=50000
ENV = InvertedPendulum-v5
ALGO = mnm
STEPS = 3000
SEED = 0
ENV_RUNNERS = 2
ROLLOUT_WORKERS = $(if $(filter sac,$(ALGO)),0,1)
STOP_RETURN = $(if $(filter InvertedPendulum-v5,$(ENV)),950)
OUTPUT = runs/$(ENV)-$(ALGO)-seed$(SEED)-$(shell date +%Y%m%d-%H%M%S)
ARGS =

# Of `make test`: processes, each with its own Ray.
TEST_PROCESSES = 2

.DEFAULT_GOAL := help
.PHONY: help install install-meta-world train test test-faults test-cluster test-system test-meta-world lint type format docs images bench bench-quick learn learn-meta-world clean

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(INSTALLED) ## build .venv with the tested versions of everything (the other verbs do it when needed)

$(INSTALLED): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null 2>&1 || \
		{ echo "make: '$(PYTHON)' was not found; install Python 3.10 or newer, or name one: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "make: Python 3.10 or newer is needed, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1); name a newer one: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "make: '$(PYTHON)' has no venv module; install it (on Debian and Ubuntu: apt install python3-venv)"; exit 1; }
	@echo "Installing into $(VENV) what pyproject.toml names, at the versions of $(CONSTRAINTS) (several minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[$(EXTRAS)]'
	@touch $@

train: install ## train on ENV with ALGO for STEPS steps into a new folder under runs/; ARGS adds options
	@$(BIN)/mnm train --env '$(ENV)' --algo '$(ALGO)' --steps '$(STEPS)' --seed '$(SEED)' \
		--num-env-runners '$(ENV_RUNNERS)' --num-rollout-workers '$(ROLLOUT_WORKERS)' \
		$(if $(STOP_RETURN),--stop-return '$(STOP_RETURN)') --output '$(OUTPUT)' $(ARGS)

test: install ## run the tests, in TEST_PROCESSES processes
	@$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile $(ARGS)

test-faults: install ## kill every kind of actor in every phase of a run, and a soak of random kills
	@$(BIN)/python -m pytest tests/faults $(ARGS)

test-cluster: install ## start a cluster on hosts made of namespaces, and cut them from it (as root)
	@$(BIN)/python -m pytest tests/hosts -x $(ARGS)

# Programs that the system tests run, and the Debian package of each. Only what is missing is installed: node from
# elsewhere conflicts with Debian's npm.
SYSTEM_PROGRAMS = prometheus:prometheus chromium:chromium node:nodejs npm:npm

test-system: install ## test with the real Prometheus, a browser and node; installs them, as root on Debian
	@for program in $(SYSTEM_PROGRAMS); do command -v $${program%:*} >/dev/null 2>&1 || missing="$$missing $${program#*:}"; done; \
	if [ -n "$$missing" ]; then \
		echo "Installing from Debian:$$missing"; \
		{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $$missing; } >/dev/null 2>&1 || \
			{ echo "make: these could not be installed; as root, with the packages within reach: apt-get install$$missing"; exit 1; }; \
	fi
	@$(BIN)/python -m pytest tests/system $(ARGS)

lint: install ## check style, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

type: install ## check types only
	@$(BIN)/mypy

format: install ## format the code and mend what ruff can mend safely
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

docs: install ## build the documentation site into site/ (open site/index.html)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "Built: site/index.html"

images: install ## draw docs/images/terminal.svg anew from a run on ENV (a few minutes)
	@run='$(OUTPUT)'; $(BIN)/mnm train --env '$(ENV)' --algo '$(ALGO)' --steps '$(STEPS)' --seed '$(SEED)' \
		$(if $(STOP_RETURN),--stop-return '$(STOP_RETURN)') --output "$$run" && \
		$(BIN)/python docs/terminal_image.py "$$run" docs/images/terminal.svg

bench: install ## measure speed against peers; writes benchmarks/results/latest.json
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks

bench-quick: install ## the same with fewer repeats; writes quick.json
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks --quick

learn: install ## list the learning experiments; make learn-NAME runs or resumes one, with ARGS="--seeds 0,1"
	@$(BIN)/python -m benchmarks.learning

learn-%: install
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.learning '$*' $(ARGS)

# Meta-World asks for a MuJoCo of its own, so it has an environment of its own.
META_WORLD := .venv-meta-world

install-meta-world:
	@mkdir -p $(META_WORLD)
	@grep -v '^mujoco' constraints.txt > $(META_WORLD)/constraints.txt
	@$(MAKE) --no-print-directory install VENV=$(META_WORLD) EXTRAS=meta-world,test CONSTRAINTS=$(META_WORLD)/constraints.txt

test-meta-world: install-meta-world ## test with the real Meta-World, in an environment of its own
	@$(META_WORLD)/bin/python -m pytest tests/meta_world $(ARGS)

learn-meta-world: install-meta-world
	@OMP_NUM_THREADS=1 $(META_WORLD)/bin/python -m benchmarks.learning meta-world $(ARGS)

clean: ## remove .venv, .venv-meta-world, caches and build leftovers; runs/ stays
	@rm -rf $(VENV) $(META_WORLD) build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
