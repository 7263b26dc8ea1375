"""How movierec is run: Envoy in front, and the demo on one machine."""
