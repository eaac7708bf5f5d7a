"""What happens when a registration has settled."""
