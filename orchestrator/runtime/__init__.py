"""The runtime: moves records through the core and its effects out of it, in the order that loses nothing.

It knows no Kafka, no Redis and no SQLite; those stand behind the Protocols of ``ports``.
"""
