"""What a user starts: config, plan, graph, run, publishing and the command line."""
