"""Session recordings: writing them as they happen, reading what a crash left, playing and exporting them.

File format, version 1 (also in docs/recordings.md)
---------------------------------------------------
    file   = magic(8) version(2) zero(2) header-crc(4) frame*
    frame  = head(60) payload
    head   = marker(4) type(1) zero(3) seq(4) stored(4) raw(4) chain(32) payload-crc(4) head-crc(4)
    payload= zlib of `raw` bytes of MessagePack, `stored` bytes long

All numbers are big-endian. `marker` lets a reader find the next frame behind damage. Frame types: 1 the
session's metadata (always seq 0), 2 a batch of events, 3 the footer (always last). `chain` is SHA-256 over
the chain value of the frame before (of 32 zero bytes for the first), the type, the seq and the payload:
frames can't be edited, dropped or swapped without breaking it, and the footer's value stands for the whole
file. Nothing is ever rewritten, so a file cut at any byte is a valid recording up to its last whole frame.

`encrypted` is a container around these bytes, for files that only the Auth Service can read; `showing` makes
of a recording's items what people see.

Must not know SSH, or who may play what.
"""
