"""Our own client before a hub written in grpcio."""
