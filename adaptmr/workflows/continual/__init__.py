"""Task networks, sequences of tasks, and the report of what was forgotten."""
