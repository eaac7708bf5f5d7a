"""The process that fetches for all apps of one user and home, and outlives them."""
