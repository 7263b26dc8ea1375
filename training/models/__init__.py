"""The models of the reference: each fits on `Ratings` and recommends movie rows."""
