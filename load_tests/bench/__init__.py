"""``make bench``: how fast the engine is, against baselines of the same run (``python -m load_tests.bench --help``)."""
