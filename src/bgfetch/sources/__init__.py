"""A name becomes requests."""
