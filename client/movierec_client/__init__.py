"""Clients of the movierec API. Requests and answers are the messages of `movierec.gateway.v1`."""

from movierec_client.asynchronous import AsyncMovieClient
from movierec_client.errors import MovieError, Violation
from movierec_client.retries import RetryPolicy
from movierec_client.synchronous import MovieClient

__all__ = ["AsyncMovieClient", "MovieClient", "MovieError", "RetryPolicy", "Violation"]
