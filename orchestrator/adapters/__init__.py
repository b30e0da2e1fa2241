"""Adapters: the only place where Kafka, Redis, SQLite, Faust and the wall clock appear."""
