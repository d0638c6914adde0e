"""Finding, measuring and modelling faces."""
