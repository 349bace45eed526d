# The only door: every target sets up what it needs. `make help` lists them.

.DEFAULT_GOAL := help
.PHONY: help setup batch-job stream-demo reconcile up down status console query doctor check format test \
  test-full compose-test lock clean
.DELETE_ON_ERROR:

STARTED := $(shell date +%s)
VENV_PYTHON := .venv/bin/python
PACKAGES := .venv/packages.ready
READY := $(PACKAGES) .millstream/jars/ready
# A story runs in the Compose stack when that is up, otherwise here: the door finds out, or STACK says it.
DOOR := $(VENV_PYTHON) -m infra.compose.door

define newline


endef
# 'text' as one word of the shell, whatever is in it: $(value ...) keeps make from expanding it again,
# and a line break, which would end the recipe's line, becomes a space.
quoted = '$(subst ','\'',$(subst $(newline), ,$(value $(1))))'
# --name 'value' where variable $(2) was given to make and is not empty. COLUMNS is also the width that a terminal may
# put into the environment: there only a text with a = in it counts.
given = $(and $(value $(1)),$(filter command environment,$(firstword $(origin $(1)))))
ignored = $(if $(filter COLUMNSenvironment,$(1)$(origin $(1))),$(if $(findstring =,$(value $(1))),,yes))
option = $(if $(call given,$(2)),$(if $(call ignored,$(2)),,--$(1) $(call quoted,$(2))))

# What a target takes, as option=VARIABLE. A variable that none of those asked for takes is refused, or a mistyped one
# would be passed over in silence; settings may be given to make too.
batch-job.takes := stack=STACK cluster=CLUSTER rows=ROWS seed=SEED core=CORE task=TASK month=MONTH input=INPUT \
  columns=COLUMNS date-format=DATE_FORMAT
stream-demo.takes := stack=STACK cluster=CLUSTER rate=RATE seconds=SECONDS shards=SHARDS scorers=SCORERS fresh=FRESH \
  input=INPUT columns=COLUMNS history=HISTORY
reconcile.takes := stack=STACK cluster=CLUSTER input=INPUT columns=COLUMNS history=HISTORY shards=SHARDS
query.takes := stack=STACK cluster=CLUSTER SQL
console.takes := stack=STACK cluster=CLUSTER
options = $(foreach pair,$(filter-out SQL,$($@.takes)),$(call option,$(firstword $(subst =, ,$(pair))),$(call name,$(pair))))
name = $(lastword $(subst =, ,$(1)))
TAKEN := PYTHON $(foreach goal,$(MAKECMDGOALS),$(foreach pair,$($(goal).takes),$(call name,$(pair))))
GIVEN := $(foreach each,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(each)))),$(each)))
STRANGE := $(filter-out $(TAKEN) MILLSTREAM_% AWS_% KAFKA_% MAKE%,$(GIVEN))
$(if $(STRANGE),$(error make $(MAKECMDGOALS) has no variable $(firstword $(STRANGE)); it has $(strip $(TAKEN))))

help: ## Show the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | \
	  while IFS='	' read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

setup: $(READY) ## Make .venv and fetch the jars; every other target does this by itself

.venv/packages.ready: requirements.lock
	@for python in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	  if "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; \
	  then exec "$$python" infra/local/bootstrap.py packages; fi; \
	done; \
	echo "setup: Python 3.11, 3.12 or 3.13 is needed; install one, or name it: make PYTHON=/path/to/python3" >&2; \
	exit 2

.millstream/jars/ready: infra/resources/jars.lock .venv/packages.ready
	@$(VENV_PYTHON) infra/local/bootstrap.py jars

batch-job: $(PACKAGES) ## The batch story. ROWS= SEED= CORE= TASK= MONTH= INPUT= COLUMNS= DATE_FORMAT= CLUSTER=
	@$(DOOR) batch-job --started $(STARTED) $(options)

stream-demo: $(PACKAGES) ## The streaming story. RATE= SECONDS= SHARDS= SCORERS= FRESH=1 INPUT= COLUMNS= HISTORY=
	@$(DOOR) stream-demo --started $(STARTED) $(options)

reconcile: $(PACKAGES) ## Recompute every feature and score from the archive and compare. INPUT= SHARDS=
	@$(DOOR) reconcile --started $(STARTED) $(options)

query: $(PACKAGES) ## Ask the warehouse: make query SQL="SELECT * FROM sales_rollup LIMIT 5"
	@$(DOOR) query $(options) -- $(if $(value SQL),$(call quoted,SQL))

up: $(READY) ## Start the embedded servers (S3, Kafka) and keep them running
	@$(VENV_PYTHON) -m infra.stories.platform up

down: $(READY) ## End every cluster and the embedded servers; data stays
	@$(VENV_PYTHON) -m infra.stories.platform down

status: $(READY) ## What runs: servers and clusters
	@$(VENV_PYTHON) -m infra.stories.platform status

doctor: $(PACKAGES) ## What this machine lacks for `docker compose up`
	@$(VENV_PYTHON) -m infra.compose.doctor

console: $(PACKAGES) ## The live page over streams, fraud, archive, clusters and results; Ctrl-C ends it
	@$(DOOR) console $(options)

check: $(READY) ## ruff, mypy --strict, import directions; writes nothing
	@.venv/bin/ruff format --check --quiet --diff .
	@.venv/bin/ruff check --no-cache --quiet .
	@.venv/bin/mypy --cache-dir=/dev/null --no-error-summary
	@$(VENV_PYTHON) -B -m pytest -q -p no:cacheprovider tests/unit/test_imports.py

format: $(READY) ## Let ruff format the code and mend what it can
	@.venv/bin/ruff check --quiet --fix . ; .venv/bin/ruff format --quiet .

# Tests mostly wait for servers. A file's tests share their servers, so they stay together.
TWO_AT_A_TIME := -n 2 --dist loadfile

test: check ## check, then unit and integration tests and a small batch job (10 to 15 minutes on two cores)
	@$(VENV_PYTHON) -m pytest -m 'not slow and not compose' $(TWO_AT_A_TIME)

test-full: $(READY) ## What `make test` leaves out: the slow tests, killed nodes, managers and brokers
	@$(VENV_PYTHON) -m pytest -m slow

compose-test: $(PACKAGES) ## The stack in containers: builds, runs, kills and removes it (needs Docker)
	@$(VENV_PYTHON) -m pytest -m compose

lock: .venv/packages.ready ## Resolve requirements.lock and jars.lock anew
	@$(VENV_PYTHON) -m venv .millstream/lock && .millstream/lock/bin/python -m pip install --quiet uv
	@.millstream/lock/bin/uv pip compile pyproject.toml --group dev --group build --universal \
	  --python-version 3.11 --generate-hashes --no-header --quiet -o requirements.lock
	@.millstream/lock/bin/uv pip compile pyproject.toml --group build --constraint requirements.lock --universal \
	  --python-version 3.11 --generate-hashes --no-header --quiet -o infra/docker/requirements.lock
	@$(VENV_PYTHON) -m infra.local.lock

clean: ## Remove caches and .venv; data under .millstream stays
	@rm -rf .venv .mypy_cache .pytest_cache .ruff_cache
