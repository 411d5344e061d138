# Two commands: `make run` serves the page, `make test` runs every test. Both need only Python 3.11 or newer.

PYTHON ?= python3
BIN = .venv/bin

# Installs Debian's packages where we may, and fails elsewhere.
root_install = [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(1)

.PHONY: run test soak bench check format pictures chromium

run: .venv/.run
	$(BIN)/python app.py

test: .venv/.test chromium
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

# What takes too long for every test run: a hundred kills, ten thousand bad inputs, sixteen visitors for two minutes.
soak: .venv/.test
	KILLS=100 BAD_INPUTS=10000 $(BIN)/python -m pytest --timeout 7200 tests/test_crash.py tests/test_hostile.py
	$(BIN)/python -m benchmarks.visitors --minutes 2

# Every figure of speed beside another's, as a table; see benchmarks/.
bench: .venv/.bench chromium
	$(BIN)/python -m benchmarks

check: .venv/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: .venv/.test
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# The pictures in the README, taken from the real page.
pictures: .venv/.test chromium
	$(BIN)/python docs/take_pictures.py

.venv/.run: requirements.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c "import ensurepip" 2> /dev/null || { $(call root_install,python3-venv); } || \
		{ echo "Python's venv is missing: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -r requirements.txt
	touch $@

.venv/.test: requirements-test.txt .venv/.run
	$(BIN)/pip install --quiet -r requirements-test.txt
	touch $@

.venv/.bench: requirements-bench.txt .venv/.test
	$(BIN)/pip install --quiet -r requirements-bench.txt
	touch $@

# The browser tests drive the system's Chromium: Debian's package where we may install it, else Playwright's own.
chromium: .venv/.test
	@command -v chromium > /dev/null || { $(call root_install,chromium fonts-noto-core); } || \
		$(BIN)/playwright install chromium
