"""What movierec costs, measured on running servers. Trust the ratios: machine and moment differ."""
