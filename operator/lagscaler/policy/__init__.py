"""How many replicas a consumer needs: pure functions of what was seen, without any I/O."""
