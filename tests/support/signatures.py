"""The keys of a test deployment."""

from services.chassis.signatures import Signer, Verifier, make_private_key, public_key_of

PRIVATE_KEY = "5e" * 32
PUBLIC_KEY = public_key_of(PRIVATE_KEY)
SIGNER = Signer(PRIVATE_KEY)
VERIFIER = Verifier(PUBLIC_KEY)
STRANGER = Signer(make_private_key())
"""Signs rightly, with a key that nobody allows."""
