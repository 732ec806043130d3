# Every target sets up .venv from the lock first if it is stale; nothing else is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FUZZ_CASES ?= 100000

.DEFAULT_GOAL := help
.PHONY: help demo pictures test test-fast lint nightly nightly-tests results bench fuzz mutants wheelhouse api-docs lock clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# torch goes in first and by itself, by its locked version: a resolver that meets a bare "torch" may choose another build.
$(STAMP): pyproject.toml requirements.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$(grep -E '^(torch|torchvision)==' requirements.lock) -c requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev]'
	@touch $@

demo: $(STAMP)  ## three hospitals train one CT model together, over HTTP, encrypted
	$(BIN)/pleura-simulate demo

pictures: $(STAMP)  ## every page of a demo's coordinator and of an agent photographed, in runs/pictures; docs has a few
	rm -rf runs/pictures
	$(BIN)/pleura-simulate demo --out runs/pictures/demo
	$(BIN)/python tests/browser/screenshots.py --data-dir runs/pictures/demo/coordinator --out runs/pictures --docs docs/pictures
	$(BIN)/python tests/browser/local_page_pictures.py --home runs/pictures/demo/sites/site-1 --scans runs/pictures/demo/hospitals/site-2/bacterial --out runs/pictures --docs docs/pictures

test: $(STAMP)  ## the whole suite, real data included where it is there
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-fast: $(STAMP)  ## without the long ones
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow and not real_data'

lint: $(STAMP)  ## ruff, mypy, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# Long; the suite itself runs experiments on a few cases.
EXPERIMENTS := ucadi fl-cxr intermittent vgg16-transfer chexnet-transfer
DATA ?= ../shared/data

nightly: $(STAMP) nightly-tests $(addprefix nightly-,$(EXPERIMENTS))  ## the longest tests, and every paper's experiment at scale small, on the sets in DATA

nightly-tests: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist worksteal -m nightly

nightly-%: $(STAMP)
	$(BIN)/pleura-simulate experiment $* --data $(DATA) --scale small --out runs/nightly/$*

results: $(STAMP) $(addprefix results-,$(EXPERIMENTS))  ## docs/results anew: every experiment at three seeds, for hours

results-%: $(STAMP)
	$(BIN)/pleura-simulate experiment $* --data $(DATA) --scale results --out runs/results/$*
	cp runs/results/$*/report/tables.md docs/results/$*.md

# The peers' packages must not meet ours: each has an environment of its own, from exact versions.
PEERS := $(foreach peer,nvflare flower,.bench/$(peer)/.installed)

.bench/%/.installed: benchmarks/peers/%.txt | $(STAMP)
	$(BIN)/python -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

bench: $(STAMP) $(PEERS)  ## secure aggregation beside its peers (BENCH="--sizes ucadi" for a part), seal and add, timed
	$(BIN)/python benchmarks/sealing.py
	$(BIN)/python -m benchmarks.aggregation $(BENCH)

fuzz: $(STAMP)  ## every byte format that crosses the wire, spoilt in FUZZ_CASES ways from FUZZ_SEED
	$(BIN)/python tests/fuzz/fuzz.py --cases $(FUZZ_CASES) $(if $(FUZZ_SEED),--seed $(FUZZ_SEED))

.bench/mutants/bin/cosmic-ray:
	$(PYTHON) -m venv .bench/mutants
	.bench/mutants/bin/python -m pip install --quiet --disable-pip-version-check cosmic-ray==8.7.0

mutants: $(STAMP) .bench/mutants/bin/cosmic-ray  ## change the opening checks and their kin, and see whether tests notice (docs/mutants.md)
	$(BIN)/python tests/mutants/run.py $(MUTANTS)

# TORCH_BUILD and TORCH_INDEX as in docker/participant.Dockerfile; without them, the build of torch that pip finds.
WHEELHOUSE := dist/wheelhouse
MADE_FOR := import platform, sys; print("%d.%d" % sys.version_info[:2], platform.system(), platform.machine())

wheelhouse: $(STAMP)  ## the agent and all that it needs, for hospitals without internet, in dist/wheelhouse
	rm -rf $(WHEELHOUSE)
	mkdir -p $(WHEELHOUSE)/wheels
	cp requirements.lock deploy/wheelhouse/README.md deploy/wheelhouse/install.sh $(WHEELHOUSE)
	$(BIN)/python -c '$(MADE_FOR)' > $(WHEELHOUSE)/MADE_FOR
	$(BIN)/python -m build --wheel --no-isolation --outdir $(WHEELHOUSE)/wheels .
	grep -E '^(torch|torchvision)==' requirements.lock | sed 's/$$/$(TORCH_BUILD:%=+%)/' > $(WHEELHOUSE)/torch.txt
	$(BIN)/python -m pip wheel --disable-pip-version-check --wheel-dir $(WHEELHOUSE)/wheels -c requirements.lock \
	  $(TORCH_INDEX:%=--extra-index-url %) -r $(WHEELHOUSE)/torch.txt "$$(ls $(WHEELHOUSE)/wheels/pleura-*.whl)[participant]"
	rm $(WHEELHOUSE)/torch.txt
	cd $(WHEELHOUSE) && sha256sum README.md MADE_FOR requirements.lock install.sh wheels/* > SHA256SUMS
	@du -sh $(WHEELHOUSE) && sha256sum $(WHEELHOUSE)/SHA256SUMS

api-docs: $(STAMP)  ## docs/api.md anew, from the OpenAPI document and the table of problems
	$(BIN)/python -m coordinator.api.reference > docs/api.md.new && mv docs/api.md.new docs/api.md

lock: $(STAMP)  ## write requirements.lock from what is installed now
	$(BIN)/python -m pip freeze --exclude-editable | sed -e 's/+cpu$$//' | grep -v -i -E '^(pleura|pip|setuptools|wheel)\b' > requirements.lock

clean:  ## remove the environment and what runs left behind
	rm -rf $(VENV) runs build dist .pytest_cache .mypy_cache .ruff_cache
