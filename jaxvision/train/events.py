"""The records of TensorBoard, from tensorboardX."""

import sys

# For its SummaryWriter, tensorboardX imports these if they are installed: two seconds for nothing.
_UNUSED = [name for name in ("torch", "boto3", "google.cloud.storage") if name not in sys.modules]
try:
    sys.modules.update(dict.fromkeys(_UNUSED))  # type: ignore[arg-type]  # with None, an import of them fails
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary
finally:
    for _name in _UNUSED:
        del sys.modules[_name]

__all__ = ["Event", "SessionLog", "Summary"]
