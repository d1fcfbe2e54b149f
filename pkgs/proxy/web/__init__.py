"""The proxy's web side: the HTTP server, the API that tools call before they have a certificate, the forms.

Promises that no request costs more than its limits say, that a refusal tells a stranger nothing, and that
every answer carries the headers that keep a browser safe. Decides nothing itself: log-in, sign-up and join
are calls to the Auth Service. Must not know tunnels, users' streams or SSH.
"""
