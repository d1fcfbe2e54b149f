"""The story behind a decision: for resources, and for rules on the API. Asked through `explain`."""
