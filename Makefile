# Every target does its own set-up, in .venv; all it needs is Python 3.11 or 3.12.

PYTHONS = python3.12 python3.11 python3 python
ARGS =
SPACE =
# Compiled modules are kept, whatever the shell says: an app, each training and each test process import some hundred.
export PYTHONDONTWRITEBYTECODE =

.PHONY: help app test format space audit clean

help:
	@echo "make app     open the app at http://127.0.0.1:7860; with options: make app ARGS='--port 7861 --share'"
	@echo "make test    check style and types, then run all tests; with pytest options: make test ARGS='-k residuals'"
	@echo "make format  format the code and apply the linter's fixes"
	@echo "make space   create or update your own Gradio Space: make space SPACE=user/name ARGS=--private"
	@echo "make audit   ask PyPI for known vulnerabilities of the installed packages"
	@echo "make clean   delete .venv and the caches"

app: .venv/app-ready
	.venv/bin/python app.py $(ARGS)

# Without being told, pyrefly would look at the packages of another environment that is active.
test: .venv/test-ready
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/lint-imports
	.venv/bin/pyrefly check --python-interpreter-path .venv/bin/python
	.venv/bin/python -m tests.ui.browser
	.venv/bin/python -m pytest $(ARGS)

format: .venv/test-ready
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

space: .venv/app-ready
	@if [ -z "$(SPACE)" ]; then echo "Say which Space: make space SPACE=user/name." >&2; exit 1; fi
	@.venv/bin/python -m resnet_space.hub.space "$(SPACE)" $(ARGS)

# In an environment of its own: it must not change the versions that it looks at.
audit: .venv/test-ready .venv/audit/bin/pip-audit
	@.venv/bin/python -m tests.audit .venv/audit/bin/pip-audit

.venv/audit/bin/pip-audit: | .venv/bin/pip
	.venv/bin/python -m venv .venv/audit
	.venv/audit/bin/python -m pip install --disable-pip-version-check pip-audit==2.10.1

clean:
	rm -rf .venv .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/app-ready: requirements.txt | .venv/bin/pip
.venv/test-ready: requirements-test.txt requirements.txt | .venv/bin/pip
# Python compiles what is imported when it is first imported; to compile all takes pip as long as all else that it does.
.venv/app-ready .venv/test-ready:
	.venv/bin/python -m pip install --disable-pip-version-check --no-compile -r $<
	@touch $@

# pip is the last thing that venv installs: where it is, the environment is whole. A name on the PATH says little (it may
# be a version manager's stub), so each candidate has to run. Debian ships venv's ensurepip apart from Python.
.venv/bin/pip:
	@for candidate in $(PYTHONS); do \
		if $$candidate -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; then \
			python=$$candidate; break; \
		fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "Python 3.11 or 3.12 is needed, but none of these runs as one: $(PYTHONS)." >&2; exit 1; \
	fi; \
	if ! $$python -c 'import ensurepip' 2>/dev/null; then \
		if [ "$$(id -u)" = 0 ]; then root=; else root="sudo -n"; fi; \
		{ $$root apt-get update && $$root apt-get install -y "$$python-venv"; } || { \
			echo "$$python lacks its venv module: apt-get install $$python-venv, then try again." >&2; exit 1; \
		}; \
	fi; \
	$$python -m venv .venv
