"""What was measured and what it says: result files, the Pareto front, the report, README's tables."""

from tfeffi.study.results import Result, ResultError, hardware, versions

__all__ = ["Result", "ResultError", "hardware", "versions"]
