"""What single entries of roles match: labels, patterns, templates filled from traits, hours and networks,
resource ids. Each is compiled once; none knows a role set.
"""
