"""`tctl`: the administrator's command line, over the Auth API."""
