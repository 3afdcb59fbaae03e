"""The reference system: an order-management system with one Django app per service."""
