"""The super-resolution-space flow: a conditional normalizing flow behind `PosteriorSampler`."""
