"""The registry: which bank serves, which did, and why; plain files that are never half written."""
