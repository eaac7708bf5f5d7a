"""Bytes on this machine: partials, blobs, named caches."""
