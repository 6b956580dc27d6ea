"""One bank, many tasks, nothing forgotten."""
