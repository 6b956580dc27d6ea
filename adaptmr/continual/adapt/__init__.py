"""The verb adapt: small changes of a network's weights for a new site, contrast or mask."""
