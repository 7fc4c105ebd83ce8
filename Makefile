PYTHON = .venv/bin/python

.PHONY: app setup check test slow gpu bench
app:    ; python3 run.py
test:   ; python3 run.py test
slow:   ; python3 run.py test -m "slow and not gpu"
gpu:    ; python3 run.py test -m gpu
setup:  ; python3 run.py test --version
check:  setup
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m pyright
bench:
	$(PYTHON) -m bench.step
	$(PYTHON) -m bench.dreambooth
