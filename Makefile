# movierec: `make help` lists the targets. Everything runs inside .venv, which the targets make themselves.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
TRAINERS := train-popularity train-cf train-als train-ranker
.PHONY: help install lock protos openapi envoy protos-check baseline format lint test test-long faults soak fuzz extras check demo bench profile oracle \
  images containers web web-down kubernetes checkov clean \
  preprocess extract-movies build-similarity tune promote rollback mlflow-ui $(TRAINERS) $(TRAINERS:=-sample)

PYTHON ?= python3
WORKERS ?= logical
UV_VERSION := 0.13.9
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export VIRTUAL_ENV := $(CURDIR)/.venv
# Where it is set, every interpreter compiles all that it imports again: a server's start takes twice as long.
unexport PYTHONDONTWRITEBYTECODE
SOURCES := benchmarks candidate_service client deploy gateway ranking_service serving similarity_service tests training
GOOGLE_PROTOS := google/api/annotations.proto google/api/field_behavior.proto google/api/http.proto \
  google/rpc/code.proto google/rpc/error_details.proto google/rpc/status.proto

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z\/-]*:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/installed ## train, serve and show recommendations; ONCE=1 ends after the tour, OPTIONS="--seed 1"
	exec python -m deploy.demo $(if $(ONCE),--once) $(OPTIONS)

# Containers. ENGINE, VERSION, BASE_IMAGE and ENVOY_IMAGE are passed on: docs/operations/containers.md.
COMPOSE = $(if $(shell docker compose version 2>/dev/null),docker compose,docker-compose) --project-name movierec \
  --file deploy/compose.yaml $(if $(MOVIEREC_DATA_DIR),$(if $(findstring ://,$(MOVIEREC_DATA_DIR)),$(error \
  MOVIEREC_DATA_DIR must be a folder here: compose would mount an address, and passes no credentials)) --file deploy/compose.data.yaml) $(PROFILES:%=--profile %)

images: ## an image per process, and build/sbom with what each holds; ENGINE=podman, VERSION=1.0
	deploy/docker/build $(IMAGES)

containers: .venv/installed ## tests of the images: one by one in Docker, as the laptop's pods in podman (8 minutes)
	exec pytest -m containers tests/deploy

web: images ## train and serve in containers, two of each, on http://127.0.0.1:8080
	$(COMPOSE) up --detach
	@echo 'Waiting until it serves ...'
	@for _ in {1..120}; do \
	  if curl --silent --fail --output /dev/null http://127.0.0.1:$${MOVIEREC_WEB_PORT:-8080}/readyz; then \
	    echo "It serves: curl 'http://127.0.0.1:$${MOVIEREC_WEB_PORT:-8080}/api/movies/personal?user_id=1'"; exit; \
	  fi; sleep 1; \
	done; $(COMPOSE) ps; exit 1

# Version 2 of compose leaves the containers of a profile that is not named, and with them the networks.
web-down: PROFILES = tracking monitoring
web-down: ## stop the containers of `web`; what was trained is kept
	$(COMPOSE) down

# Training jobs; OPTIONS="--als-alpha 3" passes options on, `python -m training JOB --help` lists them.
preprocess: .venv/installed ## check and clean the ratings, once
extract-movies: .venv/installed ## the catalogue for people: artifacts/exports/movies.parquet
train-popularity: .venv/installed ## measure plain popularity
train-cf: .venv/installed ## measure SVD of the rating matrix
train-als: .venv/installed ## measure implicit ALS, stage one
train-ranker: .venv/installed ## measure all, train the two-stage recommender and publish it
build-similarity: .venv/installed ## each movie's nearest: artifacts/exports/similarity_index.parquet
tune: .venv/installed ## look for better parameters, on the validation part alone
promote: .venv/installed ## the candidate of the registry becomes the champion
rollback: .venv/installed ## back to the previous bundle
mlflow-ui: .venv/installed ## the runs in a browser, http://127.0.0.1:5000
preprocess extract-movies build-similarity tune promote rollback mlflow-ui $(TRAINERS):
	exec python -m training $@ $(OPTIONS)

$(TRAINERS:=-sample): %-sample: .venv/installed # the same on a tenth of the users
	exec python -m training $* --sample $(OPTIONS)

# A worker takes a whole module at a time, whose tests share what they train and start.
test: .venv/installed protos/vendor ## run the tests, three at once on two processors; WORKERS=1
	exec pytest --numprocesses $(WORKERS) --dist loadscope --no-loadscope-reorder

test-long: .venv/installed protos/vendor ## run the tests that take minutes, benchmarks above all, but for those of faults
	exec pytest -m "long and not row and not containers"

# In a network namespace of its own, where packets can be dropped.
faults: .venv/installed protos/vendor ## try all rows of the fault matrix and write docs/faults.md (30 minutes)
	MOVIEREC_FUZZ_EXAMPLES=200 MOVIEREC_FUZZ_MESSAGES=100000 MOVIEREC_TEST_KILLS=50 MOVIEREC_TEST_SWAPS=200 MOVIEREC_TEST_CANCELS=500 \
	  MOVIEREC_TEST_PROCESS_SWAPS=50 exec unshare --map-root-user --net --mount \
	  sh -c 'ip link set lo up; exec python -m pytest -p tests.faults.matrix -m "row and not containers" --matrix docs/faults.md'

soak: .venv/installed protos/vendor ## swap bundles and kill replicas under load; MINUTES=30, OPTIONS="--per-second 20"
	exec unshare --map-root-user --net \
	  sh -c 'ip link set lo up; exec python -m benchmarks.soak --minutes $(or $(MINUTES),30) $(OPTIONS)'

fuzz: .venv/installed protos/vendor ## of `test`: requests made up from the OpenAPI document, 200 per operation
	MOVIEREC_FUZZ_EXAMPLES=200 exec pytest tests/e2e/test_fuzz.py

extras: .venv/installed ## of `test`: each process alone, with its own extra and nothing else
	exec pytest tests/packaging

bench: .venv/installed ## what an answer costs, beside empty hops and two monoliths (8 minutes); OPTIONS="--seconds 1"
	exec python -m benchmarks.serving $(OPTIONS)

profile: .venv/installed ## flame graphs of each process under load, in build/profile; OPTIONS="--in-flight 32"
	exec python -m benchmarks.serving.profile $(OPTIONS)

check: lint protos-check test ## all that CI runs: lint, generated code, tests

lint: .venv/installed protos/vendor ## ruff, mypy, import-linter, buf
	ruff check .
	ruff format --check .
	mypy $(SOURCES)
	lint-imports
	buf lint
	buf format -d --exit-code --path protos/movierec
	buf build -o - | buf breaking - --against protos/baseline.binpb

format: .venv/installed ## let ruff and buf format the sources
	ruff check --fix-only --quiet .
	ruff format .
	buf format -w --path protos/movierec

protos: .venv/installed protos/vendor ## regenerate protos/gen and the descriptor that Envoy reads
	rm -rf protos/gen && mkdir -p protos/gen
	python -m grpc_tools.protoc -I protos -I protos/vendor \
	  --python_out=protos/gen --grpc_python_out=protos/gen \
	  --mypy_out=quiet:protos/gen --mypy_grpc_out=quiet,only_async:protos/gen \
	  $$(find protos/movierec -name '*.proto' | sort)
	buf build --exclude-source-info --as-file-descriptor-set -o deploy/envoy/descriptor.binpb

openapi: .venv/installed protos/vendor ## regenerate the OpenAPI document that Envoy serves
	python -m deploy.openapi

envoy: .venv/installed ## regenerate Envoy's configuration for demo, compose and Kubernetes
	python -m deploy.envoy_config

features: .venv/installed ## regenerate docs/features.md
	python -m training.features.documentation docs/features.md

protos-check: protos openapi envoy ## fail if generated files differ from the commit
	@test -z "$$(git status --porcelain -- protos/gen deploy/envoy deploy/kubernetes | tee /dev/stderr)"

baseline: .venv/installed protos/vendor ## at a release: what later protos must stay compatible with
	buf build --exclude-source-info -o protos/baseline.binpb

protos/vendor: .venv/installed
	site=$$(PYTHONIOENCODING=utf-8 python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	for proto in $(GOOGLE_PROTOS); do install -D -m 644 "$$site/$$proto" protos/vendor/$$proto; done
	touch protos/vendor

install: .venv/installed ## make .venv with every pinned package

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' \
	  || { echo 'movierec needs Python 3.11 to 3.14; name one: make PYTHON=python3.11 ...' >&2; exit 2; }
	@$(PYTHON) -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null \
	  || { echo 'movierec needs libgomp.so.1, which comes with GCC; on Debian: apt-get install libgomp1' >&2; exit 2; }
	@echo 'Setting up .venv (about 2.5 GB once the pinned packages are unpacked) ...'
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	uv pip install --require-hashes -c constraints.txt -r pyproject.toml --all-extras --group dev
	uv pip install --no-deps --build-constraints constraints.txt --editable .
	@touch $@

lock: .venv/installed ## pin every dependency of every process, with hashes
	uv pip compile pyproject.toml --all-extras --group dev --group image --universal --generate-hashes \
	  --prerelease=if-necessary-or-explicit --quiet --output-file constraints.txt
	uv pip compile tests/oracle/requirements.in --universal --python-version 3.11 --generate-hashes \
	  --no-header --quiet --output-file tests/oracle/requirements.txt
	uv pip compile tests/checkov/requirements.in --universal --python-version 3.11 --generate-hashes \
	  --no-header --quiet --output-file tests/checkov/requirements.txt

oracle: .venv/installed ## RecTools' metrics, from an environment of its own, as the fixture for ours
	uv venv --quiet --clear --python $(PYTHON) build/oracle
	uv pip install --quiet --require-hashes --python build/oracle/bin/python -r tests/oracle/requirements.txt
	build/oracle/bin/python tests/oracle/rectools_metrics.py tests/training/evaluation/rectools_metrics.json

kubernetes: .venv/installed ## the manifests of each overlay, in build/kubernetes, checked against schemas and our policies
	mkdir -p build/kubernetes
	for overlay in laptop production sharded; do \
	  kubectl kustomize deploy/kubernetes/overlays/$$overlay > build/kubernetes/$$overlay.yaml; \
	  kubernetes-validate --strict --quiet build/kubernetes/$$overlay.yaml; done
	pytest tests/deploy/test_kubernetes.py

checkov: kubernetes ## and against checkov's policies, from an environment of its own
	uv venv --quiet --clear --python $(PYTHON) build/checkov
	uv pip install --quiet --require-hashes --python build/checkov/bin/python -r tests/checkov/requirements.txt
	build/checkov/bin/checkov --config-file deploy/kubernetes/checkov.yaml --directory build/kubernetes

clean: ## remove what the targets made, the trained bundles included
	rm -rf .venv artifacts build dist protos/vendor .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
