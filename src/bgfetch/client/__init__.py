"""The far end of the daemon's local API."""
