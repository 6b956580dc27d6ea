"""What is done against forgetting: one signature, `adaptmr.continual.strategies.base.Strategy`."""
