"""The certificate: a bet against the student that only a student worse than allowed would win by luck.

`wealth` is the bet, `stream` the seeds and who plays them, `ranges` and `forecast` what is fixed and said before,
`judge` plays, `attempts` counts them, `certificate` and `record` keep every return, so that anybody can recompute the
verdict.
"""

from nimbleq.compress.certify.attempts import Attempts
from nimbleq.compress.certify.certificate import Certificate, Claim, worst_decile
from nimbleq.compress.certify.judge import certify
from nimbleq.compress.certify.ranges import ReturnRange, observed_range, stated_range
from nimbleq.compress.certify.record import attempts_of, record, standing, verify_certificate
from nimbleq.compress.certify.wealth import ALPHA, Verdict, attempt_alpha, check_keep, lower_bound, noninferior

__all__ = [
    "ALPHA",
    "Attempts",
    "Certificate",
    "Claim",
    "ReturnRange",
    "Verdict",
    "attempt_alpha",
    "attempts_of",
    "certify",
    "check_keep",
    "lower_bound",
    "noninferior",
    "observed_range",
    "record",
    "standing",
    "stated_range",
    "verify_certificate",
    "worst_decile",
]
