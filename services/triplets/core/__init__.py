"""Rules about people, outcomes and triplets. No I/O."""
