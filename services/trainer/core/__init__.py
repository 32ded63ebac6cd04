"""How a leased run is carried out, whatever learns. No I/O, no torch."""
