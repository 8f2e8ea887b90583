# The commands of the repository. `make demo` shows the main job, `make test` runs every test.

export CARGO_TERM_COLOR ?= auto
LOCKED := $(if $(CI),--locked)

.PHONY: demo test soak plug check fuzz bench durable bridge peers clean-peers help

help: ## lists these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

demo: ## the main job with simulated devices and a second broker as the cloud
	cargo run --release $(LOCKED) -- demo

test: peers ## every test, after installing the test peers that are missing
	@if [ -d "$${EDGEWAY_FIXTURES:-../shared/fixtures}" ]; then \
	  echo "fixtures: $${EDGEWAY_FIXTURES:-../shared/fixtures}"; \
	else \
	  echo "fixtures: not there (../shared/fixtures); the tests over them are skipped"; \
	fi
	cargo test $(LOCKED) --no-fail-fast

soak: ## endurance, fairness, a backlog on disk and ten minutes of outage, about 17 minutes; EDGEWAY_SOAK_SECONDS=N takes N instead of 120 for each part, EDGEWAY_SOAK_OUTAGE_SECONDS=N instead of 600 for the outage
	EDGEWAY_SOAK_SECONDS=$${EDGEWAY_SOAK_SECONDS:-120} EDGEWAY_SOAK_OUTAGE_SECONDS=$${EDGEWAY_SOAK_OUTAGE_SECONDS:-600} \
	  cargo test --release $(LOCKED) --test it soak:: -- --nocapture --test-threads=1

plug: ## kills the gateway under load, and again over bridges whose links break, EDGEWAY_PLUG_KILLS=100; EDGEWAY_PLUG_SEED=N repeats a run's choices
	EDGEWAY_PLUG_KILLS=$${EDGEWAY_PLUG_KILLS:-100} \
	  cargo test --release $(LOCKED) --test it plug:: -- --nocapture --test-threads=1

check: ## formatting, lints, documentation, and dependencies where cargo-deny is installed
	cargo fmt --check
	cargo clippy $(LOCKED) --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc $(LOCKED) --no-deps
	@if command -v cargo-deny >/dev/null 2>&1; then \
	  cargo deny check bans licenses sources; \
	else \
	  echo "cargo-deny is not installed: tests/architecture.rs checks versions and licences"; \
	fi

fuzz: ## each fuzz target for a minute, FUZZ_SECONDS=60; needs cargo-fuzz
	@fuzz/run.sh $(or $(FUZZ_SECONDS),60)

bench: ## the figures of benches/
	cargo bench $(LOCKED) --bench broker

durable: peers ## what acknowledged messages cost, beside mosquitto with persistence; about six minutes
	cargo bench $(LOCKED) --bench durable

bridge: peers ## what a bridge costs and what of an outage arrives, beside mosquitto's; about four minutes
	cargo bench $(LOCKED) --bench bridge

peers: ## installs missing test peers into .peers/; starts no service
	@tests/peers.sh

clean-peers: ## removes .peers/
	rm -rf .peers
