"""From acquired k-space to an image, and how good that image is."""
