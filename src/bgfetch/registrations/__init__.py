"""What outlives the process that asked: registrations, the events they owe, their log."""
