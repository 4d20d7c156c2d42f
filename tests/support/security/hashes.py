"""Hashes of passwords with the cost that `hash_password` has, made beforehand: each takes as long as a test."""

from typing import Final

OF_PEARS: Final = (
    "$argon2id$v=19$m=65536,t=3,p=4$m8E2ZqxvSwnGEywb//4TqQ$OcOOpC4OA/C7ztAVoFsBp2EnJEyd+dOWYf0Zt88gcqo"
)
"""The password is `pears`."""
