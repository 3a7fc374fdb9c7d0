"""Random secrets that are given out once, and what is kept of them."""

import hashlib
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NONCE = 12


def new_secret() -> str:
    """43 characters, 256 bits."""
    return secrets.token_urlsafe(32)


def digest(secret: str) -> bytes:
    """What the database keeps of a secret of 256 bits: no salt is needed, nothing can be guessed."""
    return hashlib.sha256(secret.encode()).digest()


def seal(text: str, secret: str) -> bytes:
    """Encrypt under a secret that only its bearer has: the database alone cannot read it back."""
    nonce = secrets.token_bytes(_NONCE)
    return nonce + AESGCM(_key(secret)).encrypt(nonce, text.encode(), None)


def unseal(sealed: bytes, secret: str) -> str:
    """Decrypt what `seal` made; ValueError under another secret."""
    try:
        return AESGCM(_key(secret)).decrypt(sealed[:_NONCE], sealed[_NONCE:], None).decode()
    except InvalidTag as wrong:
        raise ValueError("this was sealed under another secret") from wrong


def _key(secret: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"kgl browser session").derive(secret.encode())
