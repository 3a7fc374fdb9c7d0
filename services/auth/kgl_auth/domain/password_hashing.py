"""Argon2id hashes of passwords. Each call takes tens of milliseconds of a core: call it in a thread."""

from dataclasses import dataclass

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from kgl_auth.domain.passwords import prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class HashCost:
    """What a hash costs: passes over the memory, KiB of it, and lanes. The defaults are OWASP's for argon2id."""

    passes: int = 2
    memory_kib: int = 19 * 1024
    lanes: int = 1

    def hasher(self) -> PasswordHasher:
        """The hasher with this cost."""
        return PasswordHasher(time_cost=self.passes, memory_cost=self.memory_kib, parallelism=self.lanes)


def hash_password(password: str, cost: HashCost) -> str:
    """A salted hash, with its cost written in it."""
    return cost.hasher().hash(prepared(password))


def is_password(password: str, password_hash: str) -> bool:
    """Whether the hash was made from this password, whatever its cost was."""
    try:
        return HashCost().hasher().verify(password_hash, prepared(password))
    except (VerificationError, InvalidHashError):
        return False


def is_outdated(password_hash: str, cost: HashCost) -> bool:
    """Whether the hash was made with another cost."""
    return cost.hasher().check_needs_rehash(password_hash)
