"""The bridge as a Django application: its tables, and what reads and writes them."""
