"""Redis: logging in at the server as the user that was decided on, and the conversation after it.

A client's AUTH, HELLO and RESET never decide who it is at the server; a few commands are refused; all others
go through, and the server's own access lists have the word on them.
"""
