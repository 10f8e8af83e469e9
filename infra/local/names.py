"""Physical names as CloudFormation generates them: stack, logical id, suffix."""

import hashlib
import string

from infra.local.template import ResourceId

_SUFFIX_LENGTH = 12
_ALPHABET = string.digits + string.ascii_uppercase


def physical_name(resource: ResourceId, *, limit: int, lower: bool = False) -> str:
    """Return ``<stack>-<logical id>-<suffix>``, cut to what the service accepts.

    The suffix is a digest of both, so that a name is the same at every start.

    Parameters
    ----------
    resource
        What is named.
    limit
        The longest name the service takes, characters.
    lower
        Whether the service takes lower case only, as S3 does.

    Examples
    --------
    >>> physical_name(ResourceId("Shop-dev-State", "Orders1A2B"), limit=63, lower=True)
    'shop-dev-state-orders1a2b-0f52hoq4010v'
    """
    digest = int.from_bytes(hashlib.sha256(str(resource).encode()).digest())
    suffix = ""
    for _ in range(_SUFFIX_LENGTH):
        digest, index = divmod(digest, len(_ALPHABET))
        suffix += _ALPHABET[index]
    room = limit - _SUFFIX_LENGTH - 1
    logical_id = resource.logical_id[: room // 2 if len(str(resource)) > room else room]
    stack = resource.stack[: room - len(logical_id) - 1]
    name = f"{stack}-{logical_id}-{suffix}"
    return name.lower() if lower else name
