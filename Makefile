# Shortcuts for development; see CONTRIBUTING.md.
.PHONY: test lint fuzz bench docs

test:
	pytest $(ARGS)

lint:
	ruff check .
	ruff format --check .
	lint-imports
	mypy

fuzz:
	pytest --hypothesis-profile fuzz tests/faults/test_fuzz.py $(ARGS)

bench:
	python tests/benchmarks/startup.py
	python tests/benchmarks/training.py

docs:
	python docs/generate_cli.py
