"""A real OpenStack control plane on the loopback interface, for tests."""
