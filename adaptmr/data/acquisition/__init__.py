"""How a scanner sees an anatomy: receive coils, phase, noise, the lines that are measured."""
