"""From what is seen to what is written: pure reconciliation, and the loops around it."""
