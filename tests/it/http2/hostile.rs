//! Peers that mean harm: they are cut off by rule, and others are served meanwhile.
