"""The gateway: events in over HTTP, in every form that producers speak, and look-ups out."""
