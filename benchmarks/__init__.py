"""Scripts that measure; ratios and shares rather than absolute times. Nothing here is asserted on."""
