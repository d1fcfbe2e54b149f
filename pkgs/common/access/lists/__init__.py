"""Access lists: who is in which list now, what that gives, when it must be reviewed. Pure functions."""
