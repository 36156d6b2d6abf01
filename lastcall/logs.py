"""Lastcall's log lines: one event a line, as text for people or as JSON for machines."""

import json
import logging
import sys
import time
from typing import Any, Literal

logger = logging.getLogger("lastcall")


def log_event(event: str, text: str, *, level: int = logging.INFO, **fields: Any) -> None:
    """Log *event*: *text* for people, its name and *fields* for machines.

    *text* is a format string over *fields*.
    """
    if logger.isEnabledFor(level):
        extra = {"event": event, "fields": fields}
        logger.log(level, "%s", text.format(**fields), extra=extra)


class TextFormatter(logging.Formatter):
    """Looks like uvicorn's own lines, so that a log reads as one story."""

    def format(self, record: logging.LogRecord) -> str:
        """Write `INFO:     Lastcall: …`, and the traceback if there is one."""
        line = f"{record.levelname + ':':<9} Lastcall: {record.getMessage()}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, event, message, pid and the event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line that log collectors take as it is."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": getattr(record, "event", record.name),
            "message": record.getMessage(),
            "pid": record.process,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def set_up_logging(form: Literal["auto", "text", "json"]) -> None:
    """See to it that our lines appear, without taking them from an application that set up logging.

    With "auto" we write only where nobody else would: uvicorn sets up its own loggers and no
    others, so an application that does nothing about logging would not hear from us. A form that
    the operator chose is given to the handlers that are there.
    """
    formatter = JsonFormatter() if form == "json" else TextFormatter()
    if form != "auto":
        for handler in logger.handlers:
            handler.setFormatter(formatter)
    if logger.handlers or (form == "auto" and logging.getLogger().handlers):
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logger.addHandler(handler)
    logger.propagate = False
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
