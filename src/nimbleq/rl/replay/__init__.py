"""What was played, and how it is drawn from."""
