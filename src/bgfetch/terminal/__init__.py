"""What a person sees of a download on a terminal: one line that moves, and words."""
