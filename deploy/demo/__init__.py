"""The demo: trains, starts every server and Envoy on this machine, and shows what they recommend."""
