"""What a supplier gets of a sale."""

COMMISSION_BASIS_POINTS = 1_500


def supplier_share(sold_minor: int) -> int:
    """Return the supplier's part of a sale in minor units; the shop's commission is rounded up."""
    commission = -(-sold_minor * COMMISSION_BASIS_POINTS // 10_000)
    return sold_minor - commission
