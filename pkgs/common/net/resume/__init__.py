"""Connection resumption, version 0: a byte stream that outlives the connections that carry it.

It promises that each side reads exactly what the other wrote, once and in order, whatever becomes of the
connections in between. `wire` has the bytes that are agreed on, `state` both roles' end of a stream; neither
does I/O, nor imports what a command line cannot afford. Who may take a stream up again is not decided here.
"""
