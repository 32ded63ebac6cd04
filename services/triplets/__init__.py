"""The triplet store: what people say, what happened, and the triplets that follow from it."""
