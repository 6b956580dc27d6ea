"""The training of a whole reconstruction bank, step by step, each step kept."""
