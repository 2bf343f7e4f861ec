"""What a policy can be written for: one folder a target."""
