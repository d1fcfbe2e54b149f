"""Tests of policy: a file that says who shall be allowed what, decided by the very `decide` of the services.

Pure: text in, outcomes out. Files that a test file names are read by whoever has a disk. `document` is what
people write, `world` the people, roles and things it is about, `questions` turns the words of an action into
what `decide` is asked, `suite` makes cases of tests, `run` asks and compares.
"""
