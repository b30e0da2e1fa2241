"""Commands of the command line that make a family of their own; ``orchestrator.cli`` gathers them."""
