"""The intake: producers' records and request bodies in, events out, or a refusal that says what to mend."""

from orchestrator.runtime.intake.admission import Admission, HttpIntake, Parcel, Refusal
from orchestrator.runtime.intake.dead_letter import DeadLetter, decode_dead_letter, encode_dead_letter
from orchestrator.runtime.intake.intake import UNDECODABLE, Intake, TrackingPlanCheck, decode_json
from orchestrator.runtime.intake.limits import Limits
from orchestrator.runtime.intake.normal_form import encode_event
from orchestrator.runtime.intake.refusal import RefusalCode

__all__ = [
    "UNDECODABLE",
    "Admission",
    "DeadLetter",
    "HttpIntake",
    "Intake",
    "Limits",
    "Parcel",
    "Refusal",
    "RefusalCode",
    "TrackingPlanCheck",
    "decode_dead_letter",
    "decode_json",
    "encode_dead_letter",
    "encode_event",
]
