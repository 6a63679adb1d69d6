//! Configures and launches the nodes of the cluster under test.
