"""The verbs that make networks cheaper; `accelerate` leaves the result as it is."""
