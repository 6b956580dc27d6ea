"""Digital anatomy: what is where in a head, and how it shines in each contrast."""
