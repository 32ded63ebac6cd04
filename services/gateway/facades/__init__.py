"""Foreign contracts, answered in their own words and bytes. Their words stop in this folder."""
