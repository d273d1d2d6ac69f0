"""Data URLs (RFC 2397): a file's bytes inside a text, so that nothing from outside names a path."""

from __future__ import annotations

import base64
import binascii

from components.core.errors import ModelpressError


def data_url_bytes(text: str, kind: str) -> bytes:
    """Return the bytes behind the comma of a data URL; `kind`, such as "image/png", is what to give instead.

    Raises:
        ModelpressError: not base64.
    """
    head, _, body = text.partition(",")
    if not head.endswith(";base64"):
        raise ModelpressError(f"{text[:30]}...: not base64; give data:{kind};base64,...")
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise ModelpressError(f"{text[:30]}...: not base64 ({error}); give data:{kind};base64,...") from None
