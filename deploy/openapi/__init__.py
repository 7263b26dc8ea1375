"""The OpenAPI document of the REST API, made of the descriptors and of the gateway's table of limits."""
