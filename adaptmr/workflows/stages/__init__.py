"""The stages of a workflow as plain functions: from raw files to a bank that serves."""
