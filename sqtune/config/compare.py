"""What `sqtune compare` compares: methods with fixed values, and the epochs that each gets."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from sqtune.config.training import Strict
from sqtune.config.units import ErrorShare

Budget = Literal["paper"] | Annotated[int, Field(ge=1, le=1000)]


class Method(Strict):
    """A row of the comparison: one configuration, trained with several seeds."""

    name: Annotated[str, Field(min_length=1, max_length=40)]
    """What the row is called."""
    values: Annotated[dict[str, JsonValue], Field(min_length=1)]
    """Dotted paths into the trial's configuration, and what they are for this method."""
    stages: Annotated[int, Field(ge=1, le=1000)] = 1
    """Times `trial.num_epochs` that it trains at the paper's budget: Stochastic Quantization runs
    four stages there, the others one."""
    published: ErrorShare | None = None
    """Test error that was published for it, such as 9.4% or 0.094."""
    published_top5: ErrorShare | None = None
    """The same, top-5: what is measured beside the error where there are more than ten classes."""
    against: str | None = None
    """The method that it is to beat."""


class Comparison(Strict):
    """Methods that are trained alike but for what makes them."""

    methods: Annotated[tuple[Method, ...], Field(min_length=1)]
    """The rows, in this order."""
    budgets: Annotated[tuple[Budget, ...], Field(min_length=1)] = ("paper",)
    """`paper`: each method its own `stages` times `trial.num_epochs`. A number: every method so
    many times `trial.num_epochs`, whatever its `stages`."""

    @field_validator("budgets")
    @classmethod
    def _distinct(cls, budgets: tuple[Budget, ...]) -> tuple[Budget, ...]:
        if len(set(budgets)) < len(budgets):
            raise ValueError(f"each budget stands once, not {list(budgets)}.")
        return budgets

    @model_validator(mode="after")
    def _names(self) -> Comparison:
        names = [method.name for method in self.methods]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"each method has a name of its own; these stand twice: {twice}.")
        for method in self.methods:
            given = set(method.values) & {"num_epochs", "seed"}
            if given:
                raise ValueError(
                    f"{method.name} gives {', '.join(sorted(given))}: epochs come from "
                    "trial.num_epochs, budgets and stages, seeds from --seeds. Take it out."
                )
            if method.against is not None and method.against not in names:
                raise ValueError(
                    f"{method.name} is compared with {method.against!r}, which is no method; "
                    f"they are: {', '.join(names)}."
                )
            if method.against == method.name:
                raise ValueError(
                    f"{method.name} is compared with itself: name another method, or leave "
                    "against out."
                )
        return self

    def epochs(self, method: Method, budget: Budget, num_epochs: int) -> int:
        """Return the epochs that a method trains at a budget.

        Args:
            method: One of the methods.
            budget: One of the budgets.
            num_epochs: Of the trial's configuration.
        """
        return num_epochs * (method.stages if budget == "paper" else budget)
