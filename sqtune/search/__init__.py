"""The search: Optuna proposes, Ray executes, the best is named."""
