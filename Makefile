# The only commands a person must know: make run, test, demo, bench, lint.

# The first Python on this machine that fits; choose another with `make PYTHON=…`.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1 \
	&& { echo $$python; break; }; done)
BIN := .venv/bin
# Only for tools that import the settings without a database.
LINT_ENV := DATA_DIR=var/lint SECRET_KEY=lint DATABASE_URL=postgres://localhost/lint REDIS_URL=redis://localhost

.DEFAULT_GOAL := run
.NOTPARALLEL:
.PHONY: run test test-all test-live test-browser test-slow test-speed test-docs test-room test-fast test-hosts test-alerts image image-patroni test-matrix coverage demo bench load fuzz isolation isolation-mutations isolation-timing chaos backup restore lint lint-tools update sbom licences lock clean install install-dev prepare-test

run: install
	@exec $(BIN)/python -m standalone run

# What must pass before a change is merged: installs, builds, lints, then runs the required tests (tests/run.py). Which tests
# are in another tier, and why, stands in tests/tiers.toml; PYTEST_ARGS="-k words" chooses among them.
PYTEST_PROCESSES ?= 2
test: test-room install-dev prepare-test lint
	@exec $(BIN)/python -m tests.run required --processes $(PYTEST_PROCESSES) $(PYTEST_ARGS)

# The tests of one tier, each of which runs alone: stacks and kills, Chromium, what trains and fuzzes, CPU time, the README.
TIERS := live browser slow speed docs
$(TIERS:%=test-%): test-%: test-room install-dev prepare-test
	@exec $(BIN)/python -m tests.run $* $(PYTEST_ARGS)

# All of it but what needs several hosts: each tier in its turn, whatever became of the one before; ends with 1 if one failed.
test-all:
	@failed=; for tier in test $(TIERS:%=test-%); do \
		$(MAKE) --no-print-directory $$tier || failed="$$failed $$tier"; done; \
	test -z "$$failed" || { echo "error: failed:$$failed" >&2; exit 1; }

# Says so, and stops, where the disk has no room for what is installed and what a run writes.
test-room:
	@$(call require_python)
	@$(PYTHON) tests/room.py

# Of the required tests, what needs no service: while one writes, not instead of `make test`.
test-fast: install-dev prepare-test
	@CROSSLIGHT_TEST_SERVICES=off exec $(BIN)/python -m pytest -q -n $(PYTEST_PROCESSES) --tier=required $(PYTEST_ARGS)

# Installs, lints and tests fast under each of Python 3.11 to 3.13 that this machine has, and names the others.
test-matrix: install-dev prepare-test
	@exec $(BIN)/python -m standalone.matrix

# Which lines and branches the tests reach, file by file; PYTEST_ARGS=tests/ml measures what those tests reach.
coverage: install-dev prepare-test
	@$(BIN)/python -m pytest -q -n $(PYTEST_PROCESSES) --dist loadfile --no-loadscope-reorder --cov --cov-report= \
		$(PYTEST_ARGS)
	@exec $(BIN)/python -m coverage report

# Several hosts before real engines, with kills and cut links, as root; it says what it lacks, and ends with 1 if fewer than
# nine of the twelve proofs passed.
HOSTS := tests/hosts tests/tenants/test_hosts.py tests/tenants/test_uploads_hosts.py
test-hosts: install-dev prepare-test
	@CROSSLIGHT_TEST_HOSTS=1 CROSSLIGHT_TEST_HOSTS_WHOLE=$(if $(PYTEST_ARGS),0,1) exec $(BIN)/python -m pytest -q -rs $(HOSTS) $(PYTEST_ARGS)

# The alerts of deploy/monitoring, each by causing it; needs prometheus (apt-get install prometheus). Some ten minutes.
test-alerts: install-dev prepare-test
	@CROSSLIGHT_TEST_HOSTS=1 exec $(BIN)/python -m pytest -q -rs tests/hosts/test_alerts.py $(PYTEST_ARGS)

# The guided tour, against a running stack or one of its own.
demo: install
	@exec $(BIN)/python -m standalone.tour

# The image of deploy/Containerfile: BASE=… (an image or the .tar of a Debian), VARIANT=cuda, MODELS=mounted, BUILDER=docker.
image:
	@BASE="$(BASE)" VARIANT="$(VARIANT)" MODELS="$(MODELS)" TORCH="$(TORCH)" IMAGE="$(IMAGE)" \
		BUILDER="$(BUILDER)" BUILD_ARGS="$(BUILD_ARGS)" deploy/build-image

# Postgres under Patroni and etcd, for deploy/compose.yaml.
image-patroni:
	@exec $(or $(BUILDER),buildah) build -f deploy/patroni/Containerfile $(if $(BASE),--build-arg BASE=$(BASE)) \
		-t crosslight-patroni:0.2.0 $(BUILD_ARGS) deploy/patroni

# A backup of DATA_DIR into TO (by default $DATA_DIR/backups), also while it runs; KEEP_DAYS removes older ones there.
backup: install
	@exec $(BIN)/python -m standalone backup --to "$(TO)" --keep-days "$(KEEP_DAYS)"

# FROM, a backup or a folder of them (the newest), into DATA_DIR; FORCE=1 moves what is there aside, UNSIGNED=1 takes one
# without a signature. An encrypted one needs BACKUP_IDENTITY. TO_TIME, with WAL_ARCHIVE: a moment since the backup.
restore: install
	@exec $(BIN)/python -m standalone restore "$(or $(FROM),$(error Say which: make restore FROM=path))" \
		$(if $(filter-out 0,$(FORCE)),--force) $(if $(filter-out 0,$(UNSIGNED)),--unsigned) $(if $(TO_TIME),--to-time "$(TO_TIME)")

bench: bench-retrieval

# `make bench-retrieval` runs benchmarks/retrieval.py, and so on for each file there; it ends with 1 where a section broke
# off or a promise was missed. `BENCH=toy` takes seconds and promises nothing.
BENCHMARKS := $(sort $(patsubst benchmarks/%.py,%,$(filter-out benchmarks/_%,$(wildcard benchmarks/*.py))))
# Wherever DATA_DIR is, the models are those of this checkout, for the benchmark and for the stacks that it starts.
bench-%: export CROSSLIGHT_MODELS ?= $(CURDIR)/var/models
bench-%:
	@$(if $(filter $*,$(BENCHMARKS)),,echo "error: there is no benchmark '$*'; there are: $(BENCHMARKS)" >&2; exit 2)
	@$(MAKE) --no-print-directory prepare-test
	@exec $(BIN)/python benchmarks/$*.py

# A mixed population, a greedy tenant, slow clients and an overload, on a stack of its own: MINUTES=15, SECTIONS=….
load: bench-load

# More mutated inputs than the tests take, other ones each time: media, and all else that a client sends (tests/fuzz).
# `make fuzz FUZZ_EXAMPLES=200000`, PARTS=media or PARTS=parsers for one of them, `FUZZ_SEED=…` to repeat a run.
FUZZ_EXAMPLES ?= 50000
FUZZ_media := tests/ml/test_media_fuzz.py
FUZZ_parsers := tests/fuzz
fuzz: prepare-test
	@seed=$${FUZZ_SEED:-$$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}; \
	echo "fuzz: $(FUZZ_EXAMPLES) inputs a part, FUZZ_SEED=$$seed"; \
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) exec $(BIN)/python -m pytest \
		$(foreach part,$(or $(PARTS),media parsers),$(FUZZ_$(part))) -q --hypothesis-seed=$$seed

# One tenant attacks another through every documented operation and page of the console, and one table says what came of
# it: `make isolation CALLS=1000000`, or `SEED=…` to repeat a run (docs/isolation.md).
CALLS ?= 20000
isolation: prepare-test
	@seed=$${SEED:-$$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}; \
	echo "isolation: $(CALLS) calls, SEED=$$seed"; \
	ISOLATION_CALLS=$(CALLS) ISOLATION_SEED=$$seed exec $(BIN)/python -m pytest tests/isolation/test_isolation.py -q

# Whether the time of an answer tells what another workspace has: bits of mutual information over PAIRS of each kind.
PAIRS ?= 10000
isolation-timing: prepare-test
	@ISOLATION_PAIRS=$(PAIRS) exec $(BIN)/python -m pytest tests/isolation/test_timing.py -q

# The real stack at work while its processes, disks, links, clocks and files are attacked, and what it promised is compared
# with what is there: `make chaos FAULTS=30 OPERATIONS=2000`, or `SEED=…` to repeat the choices (docs/chaos.md).
FAULTS ?= 300
OPERATIONS ?= 20000
chaos: install-dev prepare-test
	@seed=$${SEED:-$$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}; \
	echo "chaos: $(FAULTS) faults, $(OPERATIONS) operations, SEED=$$seed"; \
	CHAOS_FAULTS=$(FAULTS) CHAOS_OPERATIONS=$(OPERATIONS) CHAOS_SEED=$$seed exec $(BIN)/python -m pytest \
		tests/chaos/test_chaos.py -q -k "not is_seen" --show-capture=no --tb=short

# Takes each guard between workspaces away in turn, and ends with an error if no test notices: MUTATIONS="policy|scope" for
# some of them.
isolation-mutations: prepare-test
	@MUTATIONS="$(MUTATIONS)" exec $(BIN)/python -m pytest -q --show-capture=no -p tests.isolation.mutating

lint: install-dev lint-tools

# Of whatever environment: `make lint-tools BIN=…`.
lint-tools:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(LINT_ENV) $(BIN)/mypy -p config -p standalone -p api -p console -p backoffice -p tenants -p workers -p ml -p research
	$(BIN)/lint-imports

# Writes anew what a change may change and a test holds on to: the API's OpenAPI document, the catalogues of texts (it names
# what has no translation yet), the list of icons, the list of guards. Look at the difference before it is committed.
update: install-dev
	$(LINT_ENV) DJANGO_SETTINGS_MODULE=config.settings $(BIN)/python -m tests.api.openapi
	$(BIN)/python -m standalone messages
	$(LINT_ENV) DJANGO_SETTINGS_MODULE=config.settings $(BIN)/python -m tests.console.icons
	$(BIN)/python -m tests.tiers

# What the installation is made of (CycloneDX, var/sbom.json), and whether each licence is one that is allowed.
sbom: install-dev
	$(BIN)/python -m standalone.supply_chain sbom
licences: install-dev
	$(BIN)/python -m standalone.supply_chain licences

# Pins every dependency with hashes; torch is left out on purpose (pyproject.toml, tool.uv).
LOCK := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header
lock: install-dev
	$(BIN)/python -m pip install --quiet uv
	$(LOCK) --extra dev -o requirements-dev.txt
	$(LOCK) -c requirements-dev.txt -o requirements.txt

# Keeps var/, where the data is.
clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	rm -rf platform/console/static/dist platform/console/frontend/node_modules

install:
	@$(call require_python)
	@$(PYTHON) platform/standalone/install.py

install-dev:
	@$(call require_python)
	@$(PYTHON) platform/standalone/install.py --dev

prepare-test: install-dev
	@DATA_DIR=$(or $(DATA_DIR),var) $(BIN)/python -m standalone prepare

define require_python
test -n "$(PYTHON)" || { echo "error: Crosslight needs Python 3.11, 3.12 or 3.13: apt-get install python3" >&2; exit 1; }
endef
