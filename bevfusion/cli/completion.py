"""What the shell offers for arguments that are names; files and folders it completes itself.

`--install-completion` sets it up. Whatever is heavy is imported when somebody presses the key.
"""

from collections.abc import Iterable


def _beginning(words: Iterable[str], incomplete: str) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]


def checkpoints(incomplete: str) -> list[str]:
    """Names in place of a checkpoint."""
    return _beginning(("default", "classical"), incomplete)


def configs(incomplete: str) -> list[str]:
    """Configurations that ship."""
    from bevfusion.config import shipped_configs

    return _beginning(shipped_configs(), incomplete)


def sensors(incomplete: str) -> list[str]:
    """LiDARs that are simulated by name."""
    from bevfusion.simulate.sensor import SENSORS

    return _beginning(SENSORS, incomplete)


def modes(incomplete: str) -> list[str]:
    """Of `evaluate`."""
    from bevfusion.sequence import ESTIMATORS

    return _beginning(ESTIMATORS, incomplete)


def odometries(incomplete: str) -> list[str]:
    """Of `evaluate`."""
    from bevfusion.cli.options import ODOMETRIES

    return _beginning(ODOMETRIES, incomplete)


def factors(incomplete: str) -> list[str]:
    """Of `stress`."""
    from bevfusion.evaluation.stress_factors import factors as all_factors

    return _beginning([factor.name for factor in all_factors()], incomplete)


def precisions(incomplete: str) -> list[str]:
    """In which a network computes."""
    from bevfusion.precision import PRECISIONS

    return _beginning(PRECISIONS, incomplete)


def suites(incomplete: str) -> list[str]:
    """Of `benchmark`."""
    from bevfusion.benchmark.run import SUITES

    return _beginning(SUITES, incomplete)
