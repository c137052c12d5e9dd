#!/usr/bin/env python3
"""Retention dates by other means than ours: the calendar of Python and its zones.

    python3 dates.py > dates.tsv

Columns: zone, start on the station's clock, months, the last day on which the
footage is kept, and the first instant after that day (Unix seconds) where it is
past history, which no parliament changes any more; else "-".

The rule of the regulation, as it is read here: the day of the same number so many
calendar months on; where that month is too short, as many days further as are
missing; kept until that day is over.
"""
from calendar import monthrange
from datetime import date, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

ZONES = ["Asia/Shanghai", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Africa/Cairo"]
CLOCKS = ["00:00:00", "12:34:56", "23:59:59"]
HISTORY = date(2025, 12, 31)


def last_day(start, months):
    year, month = start.year, start.month
    for _ in range(months):
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
    missing = max(0, start.day - monthrange(year, month)[1])
    return date(year, month, start.day - missing) + timedelta(days=missing)


def first_instant_after(day, zone):
    """Goes through the hours and then the minutes until the zone shows a later day."""
    def later(t):
        return t.astimezone(zone).date() > day
    t = datetime.combine(day, time(), timezone.utc) - timedelta(days=2)
    while not later(t):
        t += timedelta(hours=1)
    t -= timedelta(hours=1)
    while not later(t):
        t += timedelta(minutes=1)
    return int(t.timestamp())


def row(zone, day, clock, months):
    last = last_day(day, months)
    after = first_instant_after(last, ZoneInfo(zone)) if last < HISTORY else "-"
    print(zone, f"{day}T{clock}", months, last, after, sep="\t")


def main():
    ends = [date(y, m, monthrange(y, m)[1]) for y in range(2024, 2033) for m in range(1, 13)]
    for i, day in enumerate(ends):
        for months in (6, 7, 12, 36):
            row(ZONES[0], day, CLOCKS[i % 3], months)
        for j, zone in enumerate(ZONES[1:]):
            row(zone, day, CLOCKS[(i + j) % 3], 6)
    # Days that are special by themselves, in every zone and at every clock.
    special = [(2023, 8, 29), (2023, 8, 30), (2023, 8, 31), (2023, 12, 30), (2023, 12, 31), (2024, 2, 28),
               (2024, 2, 29), (2025, 2, 28), (2025, 8, 29), (2025, 8, 30), (2024, 3, 1), (2024, 9, 1)]
    # And those whose sixth month ends with a change of the clocks.
    special += [(2024, 5, 2), (2024, 5, 3), (2024, 9, 9), (2024, 9, 10), (2024, 9, 30), (2024, 4, 30), (2024, 4, 27),
                (2024, 4, 6), (2024, 10, 6), (2023, 10, 25), (2023, 10, 26), (2023, 10, 27), (2024, 10, 25), (2024, 4, 25)]
    for zone in ZONES:
        for y, m, d in special:
            for clock in CLOCKS:
                for months in (6, 12):
                    row(zone, date(y, m, d), clock, months)
    # A clock that skipped the very midnight: 4 November 2018 began at 01:00.
    for d in (3, 4, 5):
        for clock in CLOCKS:
            row("America/Sao_Paulo", date(2018, 5, d), clock, 6)
    # Samoa left out 30 December 2011.
    for d in (28, 29, 30):
        for clock in CLOCKS:
            row("Pacific/Apia", date(2011, 6, d), clock, 6)
            row("Pacific/Apia", date(2011, 5, d), clock, 7)


main()
