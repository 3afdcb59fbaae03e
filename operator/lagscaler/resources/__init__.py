"""What the API server keeps, as plain values: read from its dicts, and written back as such."""
