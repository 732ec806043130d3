"""What to do about each problem that the API answers with, by its code; docs/api.md shows it beside the code.

A problem's own `detail` says what happened in the case at hand, and often more exactly what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_FAULT_OF_THE_AGENT: Final = "A fault of the sending agent: update it, and report it if it stays."

REMEDIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "refused": "Read `detail`.",
        "unauthenticated": "Send a bearer token that is valid here.",
        "token-missing": "Send `Authorization: Bearer` with a site's JWT or an operator's token.",
        "token-invalid": "Operators: ask for another token. Sites: check the coordinator's address and the home.",
        "token-expired": "Sign a new token for each request; if that is refused too, set the machine's clock.",
        "token-replayed": "Sign a new token, with a `jti` of its own, for each request.",
        "forbidden": "Ask the operator.",
        "role-missing": "Call with a token of the kind that `detail` names.",
        "site-suspended": "Ask the coordinator's operator why, and to readmit the site.",
        "not-a-member": "Join the study; calls about an attempt are for the members on its roster.",
        "key-limit": "Wait until a key is dealt: blobs of former keys are deleted then.",
        "invitation-refused": "Ask the operator for an invitation.",
        "invitation-invalid": "Copy the invitation again, whole; else ask the operator for another.",
        "invitation-used": "Ask the operator for another invitation: each is for one site.",
        "invitation-expired": "Ask the operator for a new invitation.",
        "not-found": "Check the address and the ids in it; what belongs to an attempt is deleted after its end.",
        "method-not-allowed": "Use one of the methods in the header `Allow`.",
        "conflict": "Look at the present state, as `detail` says, and decide anew.",
        "name-taken": "Choose another name.",
        "study-state": "Bring the study into one of the states that `detail` names, or leave it.",
        "round-closed": "Nothing: ask for the task, and contribute to the next attempt.",
        "part-differs": "Send the parts of one contribution only; begin again with the next attempt.",
        "manifest-differs": "Nothing: the first manifest stands.",
        "answer-differs": "Nothing: the first answer stands.",
        "parts-missing": "Send the parts that `detail` lists, then the same request again.",
        "votes-missing": "Wait until more than half of the roster voted, then send the same request again.",
        "epoch-exists": "Nothing: take the key that the study has.",
        "refused-for-good": "Do not send it again; read `detail`.",
        "request-invalid": "Correct the fields that `faults` lists.",
        "message-refused": _FAULT_OF_THE_AGENT,
        "manifest-refused": _FAULT_OF_THE_AGENT,
        "part-size": "Make the contribution for the plan at hand; sizes follow from its layout.",
        "model-refused": "Write the file with `pleura-participant model new`.",
        "digest-mismatch": "Send it again: the bytes were changed on their way.",
        "too-large": "Send less: `limit` is the most, in bytes; the operator sets it.",
        "range-unsatisfiable": "Ask for a range within `size` bytes, or for the whole.",
        "rate-limited": "Send it again after `retry_after` seconds, which the header `Retry-After` has too.",
        "not-ready": "Wait; `checks` says what is missing. If it stays, its operator finds the reason in the log.",
        "busy": "Send the same request again in a few seconds.",
        "disk-full": "Send the same request again later; the operator makes room.",
        "malformed": _FAULT_OF_THE_AGENT,
        "malformed-key-part": _FAULT_OF_THE_AGENT,
        "shares-refused": "Nothing: the senders that are named are asked by their operators.",
        "private-context": "Send the public context: the secret key stays with the members. Deal another key.",
        "corrupt-ciphertext": "Send it again; if it is refused again, seal it anew.",
        "wrong-recipient": "Seal it to the keys that the roster lists for its recipient.",
        "signature-invalid": "Sign with the key that the site enrolled with last.",
        "out-of-range": _FAULT_OF_THE_AGENT,
        "opening-refused": "Nothing: another answer is asked for.",
        "too-few-shares": "Nothing: more answers are waited for.",
        "shares-disagree": "Nothing: more answers are waited for, which show whose is wrong.",
        "canary-mismatch": "Nothing: another answer is asked for.",
        "negative-count": "Nothing: another answer is asked for.",
        "internal": "Send the same request again later; if it stays, ask the operator to look into the log.",
    }
)
