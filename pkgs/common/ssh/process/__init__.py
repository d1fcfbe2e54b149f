"""One process per connection: how it is made, spoken to and ended.

`spawner` is the small parent they are forked from, `pool` the service's hand on it, `monitor` and `link`
the two ends of the ordered protocol in `messages`, `loop` and `splice` what runs inside. Must not know a
service.
"""
