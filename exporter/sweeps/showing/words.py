"""How the table, the display and the report word what they show."""

from collections.abc import Sequence

from exporter.sweeps.records.results import Outcome

MARKS = {
    Outcome.PROVEN: "[bold green]✓[/]",
    Outcome.WRITTEN: "[bold yellow]![/]",
    Outcome.FAILED: "[bold red]✗[/]",
    Outcome.MISSING: "[dim]·[/]",
}

_LONGEST = 1e10  # seconds that are worth to be said in hours: three centuries


def format_seconds(seconds: float, rough: bool = False) -> str:
    """Returns a duration such as `455 µs`, `31.8 ms`, `2.3 s` or `3 min 20 s`.

    Args:
        seconds: The duration.
        rough: Whether whole seconds are enough.
    """
    if not abs(seconds) <= _LONGEST:
        return f"{seconds:.1e} s"
    if seconds >= 60:
        minutes, rest = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
    if rough or seconds >= 100:
        return f"{max(seconds, 1):.0f} s"
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        scaled = seconds * factor
        if scaled >= 1 or unit == "µs":
            return (
                f"{scaled:.0f} {unit}"
                if scaled >= 100
                else f"{scaled:.1f} {unit}"
                if scaled >= 10
                else f"{scaled:.2f} {unit}"
            )
    return ""


def shorten_overrides(jobs: Sequence[Sequence[str]]) -> list[str]:
    """Names each job by those of its overrides that not all jobs share.

    Args:
        jobs: The overrides of each job.

    Returns:
        A name per job; of a single job, all of its overrides.
    """
    shared = set.intersection(*(set(overrides) for overrides in jobs)) if len(jobs) > 1 else set()
    names = [[each.lstrip("+") for each in overrides if each not in shared] for overrides in jobs]
    return [" ".join(words) or f"job {number}" for number, words in enumerate(names)]
