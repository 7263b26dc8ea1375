"""All of the kit that touches gRPC."""
