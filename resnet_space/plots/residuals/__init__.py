"""What residual blocks do to their input, as charts."""
