"""How the table, the display and the report word what they show."""

from collections.abc import Sequence

from exporter.sweeps.records.results import Outcome

# As plain text; the terminal gives them colours.
PLAIN_MARKS = {
    Outcome.PROVEN: "✓",
    Outcome.WRITTEN: "!",
    Outcome.REFUSED: "\N{EN DASH}",
    Outcome.FAILED: "✗",
    Outcome.MISSING: "·",
}
_STYLES = {
    Outcome.PROVEN: "bold green",
    Outcome.WRITTEN: "bold yellow",
    Outcome.REFUSED: "dim",
    Outcome.FAILED: "bold red",
    Outcome.MISSING: "dim",
}
MARKS = {outcome: f"[{_STYLES[outcome]}]{mark}[/]" for outcome, mark in PLAIN_MARKS.items()}

# Of a row that no other one beats in everything that is compared.
FRONT_MARK = "◆"

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


def leave_keys_out(label: str) -> str:
    """Shortens the name of a job where there is little room: the values are what tells the jobs apart."""
    return " ".join(word.partition("=")[2] or word for word in label.split(" "))


def word_front(has_scores: bool, has_models: bool = False) -> str:
    """Says what the jobs are that no other job beats.

    Args:
        has_scores: Whether they were compared by their scores on labelled data, too.
        has_models: Whether each was compared with those of its own model alone.
    """
    figures = "bytes, median latency and accuracy" if has_scores else "bytes and median latency"
    return f"no other job{' of its model' if has_models else ''} is at least as good in {figures}"


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
