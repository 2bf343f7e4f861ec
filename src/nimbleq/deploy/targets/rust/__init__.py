"""A ``no_std`` crate around the policy in C."""
