"""The plan's part about time series: the temperature of the sea, saved in several commands, with every rejection.

All of it has one key, so it is in one lane and in order. Readers see the first points until the save is completed.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any, Final

from tidemill.contexts.time_series import messages, time_series
from tidemill.domain.messages import CommandBase
from tidemill_devkit.demo.records import Planned, applied, rejected
from tidemill_devkit.demo.samples import sample_file

TIME_SERIES: Final = "time-series"
SERVICE: Final = "buoy"
SERIES: Final = "sea-surface-temperature"
COLUMN: Final = "celsius"
READINGS: Final = 19_226
"""Half-hourly readings in the file, of a buoy at the coast of Massachusetts in 2016 and 2017."""

FIRST: Final = 48
"""How many of them are saved at first, by one command."""

_FILE: Final = "sea_surface_temperature.csv.gz"
_SAVE: Final = "whole-file"


@dataclass(frozen=True, slots=True)
class Reading:
    """What the buoy measured."""

    time: datetime
    celsius: float


def readings() -> list[Reading]:
    """Return the readings of the file, in its order."""
    with gzip.open(sample_file(_FILE), "rt", encoding="utf-8", newline="") as file:
        return [
            Reading(datetime.fromisoformat(row["time (UTC)"]), float(row["temperature (celsius)"]))
            for row in csv.DictReader(file)
        ]


def days_by_pandas() -> dict[datetime, tuple[int, float, float]]:
    """Return what pandas computes from the file: day -> how many readings, the lowest and the highest one."""
    import pandas as pd  # noqa: PLC0415  half a second, which only the proof pays

    frame = pd.read_csv(sample_file(_FILE), parse_dates=["time (UTC)"])
    days = frame.groupby(frame["time (UTC)"].dt.floor("D"))["temperature (celsius)"]
    found = days.agg(["count", "min", "max"])
    return {
        day.to_pydatetime(): (int(row[0]), float(row[1]), float(row[2]))
        for day, row in zip(found.index, found.itertuples(index=False), strict=True)
    }


def points_planned() -> int:
    """Return how many rows the points of the plan are: the first ones stay, though nobody sees them any more."""
    return FIRST + READINGS


def series_records(now: datetime) -> list[Planned]:
    """Return the records in order. `now`: the timestamp of the commands."""
    return list(_Story(now).records())


class _Story:
    def __init__(self, now: datetime) -> None:
        self._now = now
        self._numbers = count(1)

    def records(self) -> Iterator[Planned]:
        """Yield a save of all readings, with the mistakes of a saver that does not look first."""
        all_readings = readings()
        first = self._points(messages.SaveTimeSeriesPoints, all_readings[:FIRST])
        yield self._refused(first, "NO_SERIES")
        created = self._about(
            time_series.messages.create, name="Sea surface", time_column="time", value_columns=f'["{COLUMN}"]'
        )
        yield applied(TIME_SERIES, created)
        yield self._refused(self._about(time_series.messages.update, axis="int64"), "AXIS_FIXED")
        yield applied(TIME_SERIES, self._points(messages.SaveTimeSeriesPoints, all_readings[:FIRST]))
        yield from self._save(all_readings)

    def _save(self, all_readings: Sequence[Reading]) -> Iterator[Planned]:
        most = messages.MAX_POINTS
        yield applied(TIME_SERIES, self._about(messages.OpenTimeSeriesSave, save=_SAVE))
        yield self._refused(self._about(messages.OpenTimeSeriesSave, save="another"), "SAVE_OPEN")
        parts = [
            self._points(messages.FillTimeSeriesSave, all_readings[start : start + most], save=_SAVE)
            for start in range(0, len(all_readings), most)
        ]
        yield from (applied(TIME_SERIES, part) for part in parts)
        yield applied(TIME_SERIES, parts[-1]).again()  # its answer got lost; the points count once
        unknown = self._points(messages.FillTimeSeriesSave, all_readings[:1], save=_SAVE, column="fahrenheit")
        yield self._refused(unknown, "NO_COLUMN")
        numeric = {"column_names": [COLUMN], "columns": [0], "values": [4.9], "floats": [0.5]}
        yield self._refused(self._about(messages.FillNumericSave, save=_SAVE, **numeric), "WRONG_AXIS")
        too_early = self._about(messages.CompleteTimeSeriesSave, save=_SAVE, points=READINGS + 1)
        yield self._refused(too_early, "SAVE_INCOMPLETE")
        completed = self._about(messages.CompleteTimeSeriesSave, save=_SAVE, points=READINGS)
        yield applied(TIME_SERIES, completed)
        too_late = self._points(messages.FillTimeSeriesSave, all_readings[:1], save=_SAVE)
        yield self._refused(too_late, "NO_SAVE")

    def _refused(self, command: CommandBase, code: str) -> Planned:
        return rejected(TIME_SERIES, command, code)

    def _points(
        self, model: type[CommandBase], part: Sequence[Reading], *, column: str = COLUMN, **fields: Any
    ) -> CommandBase:
        lists = {
            "column_names": [column],
            "columns": [0] * len(part),
            "values": [reading.celsius for reading in part],
            "times": [reading.time for reading in part],
        }
        return self._about(model, **lists, **fields)

    def _about(self, model: type[CommandBase], **fields: Any) -> CommandBase:
        base = {
            "command_id": f"sea-{next(self._numbers)}",
            "service_name": SERVICE,
            "timestamp": self._now,
            "time_series_id": SERIES,
        }
        return model.model_validate(base | fields)
