"""The conformance suite: what every connector promises, checked against a server that answers as its provider does.

Whoever writes a connector writes one ``Example`` (bench.py); ``PROMISES`` (promises.py) are then run over it, from
pytest or with ``python -m connectors.conformance``. connectors/README.md shows both.
"""
