# Everything that is done with this repository. `make help` prints what follows `##`.

CARGO ?= cargo
BUILD_TOOLS = cc=gcc g++=g++ cmake=cmake

.PHONY: help run test python check demo bench micro waf fuzz package package-test

help: ## Print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Build the gateway and its demonstration services, and run them on port 8881
	@.ci/need $(BUILD_TOOLS)
	@echo "building (some minutes the first time) ..."
	$(CARGO) build --release --locked -p edgeway -p edgeway-auth -p edgeway-product
	@services/run target/release

test: ## Run all tests
	@.ci/need $(BUILD_TOOLS)
	@$(MAKE) --no-print-directory python || echo "no Python packages: the tests that need them are skipped" >&2
	@.ci/need redis-server=redis-server || echo "no redis-server: the tests that need it are skipped" >&2
	@.ci/need /usr/bin/chromedriver=chromium-driver || echo "no chromedriver: the tests that need it are skipped" >&2
	$(CARGO) build --locked --workspace --bins --examples
	$(CARGO) test --locked --workspace

python: target/python/installed ## Install the Python packages that some tests need

target/python/installed: tests/python/requirements.txt
	python3 -m venv target/python
	target/python/bin/pip install --quiet --disable-pip-version-check --retries 1 --timeout 10 -r $<
	@touch $@

check: ## Check format, lints, documentation, and dependencies
	@.ci/need $(BUILD_TOOLS)
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --offline check; \
	else echo "dependencies not audited: cargo-deny is not installed (cargo install cargo-deny)"; fi

demo: ## Run the tutorial in containers and check it (needs a Docker engine)
	@compose/check

bench: ## Measure the gateway beside nginx, nginx with njs, Varnish, HAProxy and Caddy (about 35 minutes)
	@.ci/need $(BUILD_TOOLS) nginx=nginx /usr/lib/nginx/modules/ngx_http_js_module.so=libnginx-mod-http-js \
		/usr/sbin/varnishd=varnish /usr/sbin/haproxy=haproxy caddy=caddy
	$(CARGO) build --release --locked -p edgeway -p edgeway-load
	target/release/edgeway-load

micro: ## Measure the search for a route, the choice of an endpoint, the cache, the token check and a limit, by themselves
	@.ci/need $(BUILD_TOOLS)
	$(CARGO) bench --locked -p edgeway --bench route
	$(CARGO) bench --locked -p edgeway --bench balance
	$(CARGO) bench --locked -p edgeway --bench cache
	$(CARGO) bench --locked -p edgeway-filters --bench jwt
	$(CARGO) bench --locked -p edgeway-filters --bench rate_limit

waf: ## Measure what the filter `waf` finds of known attacks, and refuses of harmless requests
	@.ci/need $(BUILD_TOOLS)
	$(CARGO) test --locked -p edgeway-tests --test waf
	$(CARGO) bench --locked -p edgeway-filters --bench waf

fuzz: ## Follow random paths to files for a minute, and hold what they lead to against a plain walk
	@.ci/need $(BUILD_TOOLS)
	EDGEWAY_FUZZ=$(or $(SECONDS),60) $(CARGO) test --locked -p edgeway --lib files::paths

package: ## Build the Debian package: program, systemd units, configuration, manual, completions
	@.ci/need $(BUILD_TOOLS) dpkg-deb=dpkg
	@command -v cargo-deb >/dev/null || { echo "installing cargo-deb ..."; $(CARGO) install --locked cargo-deb@3.8.0; }
	$(CARGO) build --release --locked -p edgeway
	conf/package/build target/release/edgeway

package-test: package ## Install, start, reload, upgrade and remove the package in a Debian of its own, with systemd (needs root)
	@.ci/need debootstrap=debootstrap unshare=util-linux
	tests/package/check
