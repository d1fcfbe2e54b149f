"""The verbs that say why: explain a decision, who can, what can. Must not decide anything."""
