"""The one record of a request, the record of an event, and what a sink may do with them."""

from .event import error_type_of
from .event import EventRecord
from .event import Outputs
from .event import PendingRender
from .request import current_record
from .request import Details
from .request import MAX_SIGNALS_HELD
from .request import record_here
from .request import RequestRecord
from .sink import REFUSED
from .sink import Sink

__all__ = [
    "MAX_SIGNALS_HELD",
    "REFUSED",
    "Details",
    "EventRecord",
    "Outputs",
    "PendingRender",
    "RequestRecord",
    "Sink",
    "current_record",
    "error_type_of",
    "record_here",
]
