"""What a model costs and how it learns: multiply-adds, parameters, bytes."""

from tfeffi.analysis.cost import Cost, LayerCost, cost

__all__ = ["Cost", "LayerCost", "cost"]
