# Shortcuts for development; see CONTRIBUTING.md.
.PHONY: test lint fuzz corpora mutants bench docs

test:
	pytest $(ARGS)

lint:
	ruff check .
	ruff format --check .
	lint-imports
	mypy

fuzz:
	python tests/faults/fuzz.py 100000 $(ARGS)

corpora:
	python tests/faults/corpora.py --fetch $(ARGS)

mutants:
	python tests/faults/mutants.py $(ARGS)

bench:
	python tests/benchmarks/startup.py
	python tests/benchmarks/training.py

docs:
	python docs/generate_cli.py
