"""Glue for frameworks."""
