"""A trainer pod: leases one run at a time, learns a head, and hands it over."""
