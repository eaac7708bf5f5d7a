"""Makes what the core decides happen."""
