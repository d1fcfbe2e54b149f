"""The messages of the Auth API and of the tunnel control connection, one file per area. Data only."""
