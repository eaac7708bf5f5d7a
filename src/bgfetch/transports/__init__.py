"""A request becomes bytes."""
