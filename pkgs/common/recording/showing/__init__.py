"""What becomes of a recording's items for people: replay, plain text and its lines, exports.

Sans-IO: items in, instructions or text out. Must not know how a recording is stored or fetched.
"""
