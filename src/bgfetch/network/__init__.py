"""What this machine's network is and when it changes."""
