"""A small project of somebody else's, to which the bridge is added as its documentation says."""
