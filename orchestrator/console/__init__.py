"""The console: what marketing ops and SREs see in a browser."""
