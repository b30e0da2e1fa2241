"""Load generators, fault harness and the real servers that they run against."""
