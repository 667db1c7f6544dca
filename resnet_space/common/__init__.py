"""What every room may use: texts, faults, threads, the machine, the way to the Hub."""
