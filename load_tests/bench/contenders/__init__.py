"""What the worker is compared with: each a process of its own that drains the same topic and prints a line of JSON."""
