"""The demonstration: a bank that chooses masks, beside what does without, in one report."""
